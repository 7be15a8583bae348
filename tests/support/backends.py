"""The backends of CGCNN's convolution, for tests that hold for each. Without a compiler `native` would fall back."""

import pytest

from srcgcnn.models.blocks.cgcnn.kernels.native.library import native_library

COMPILER = pytest.mark.skipif(native_library(64) is None, reason="no C++ compiler on this machine")
BACKENDS = pytest.mark.parametrize("backend", ["plain", pytest.param("native", marks=COMPILER)])
