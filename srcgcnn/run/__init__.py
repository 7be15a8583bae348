"""The folder OUT of a sweep: what a trial is, its result, and every file."""
