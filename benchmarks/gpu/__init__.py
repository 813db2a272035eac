"""The predicted times of the GPU kernels, from their machine code."""
