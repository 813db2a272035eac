"""The operators: their schemas, fake kernels, batching rule and autograd."""
