"""Trained models answer for new crystals: choice of a variant, ensemble, interval, imported checkpoints."""
