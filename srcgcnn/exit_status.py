"""Exit statuses, in one place: head, driver and command line tell each other by them how a sweep ended."""

DONE = 0
IN_PART = 1  # some trials failed, some crystals could not be predicted, or a check found a fault
ERROR = 2  # nothing done: an argument, a file or the machine does not allow it
LOST = 3  # the cluster's jobs are gone and the sweep is not over
INTERRUPTED = 130  # as a shell reports Ctrl-C
TERMINATED = 143  # as a shell reports SIGTERM: the job leaves, and may be started again
