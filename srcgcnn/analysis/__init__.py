"""Results become studies, intervals, tests, trade-offs, figures and the report."""
