"""One group of trials on one device: batches, loop, checkpoint, resume."""
