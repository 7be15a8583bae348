"""Where a sweep runs: site files, this machine, SLURM jobs."""
