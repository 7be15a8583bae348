"""Where a sweep runs: site files and launchers."""
