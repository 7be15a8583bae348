"""Fast kernels of the convolution: exact, and tested against the plain equations."""
