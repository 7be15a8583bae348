"""A trained model, or the seeds of a variant, answers for new crystals."""
