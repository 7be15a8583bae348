"""The convolution fast: exact, and tested against the plain equations."""
