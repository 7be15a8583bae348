"""Predictions of trained models for new crystals: choice of a variant, ensemble, interval, imported checkpoints."""
