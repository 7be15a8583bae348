"""Readers of crystals and targets: one file per kind of source."""
