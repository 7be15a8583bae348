"""The driver of a sweep: a plan on Ray Tune, and what its workers run."""
