"""Array mathematics without layers: affine maps, convolution kernels, exact products."""
