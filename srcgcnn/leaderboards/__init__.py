"""Benchmarks of others: their splits, training on them, and what they take."""
