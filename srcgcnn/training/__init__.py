"""One group of trials on one device. `trial` needs no torch; the loop does."""
