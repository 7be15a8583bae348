"""The convolution of CGCNN: plain equations, the step, and its kernels."""
