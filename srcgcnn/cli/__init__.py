"""The command line: all parsing and printing, one file per noun."""
