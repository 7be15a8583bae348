"""Seeds to intervals, trade-offs and tables."""
