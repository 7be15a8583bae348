"""What people bring: one file per kind of source."""
