"""Which trials, in which groups, and running them on Ray Tune. Planning imports neither torch nor Ray."""
