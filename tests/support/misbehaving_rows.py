"""What processes do that work on rows of strangers. They import this module, so it imports next to nothing."""

import os
import signal


def misbehave(row):
    if row == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if row == "compiled loop":
        sum(range(10**13))
    if row == "memory":
        try:
            return len(bytearray(8 * 2**30))
        except MemoryError:
            return "no memory"
    return row.upper()


def lost(row, reason):
    return f"{row}: {reason}"


def fail_to_start():
    raise SystemExit(3)
