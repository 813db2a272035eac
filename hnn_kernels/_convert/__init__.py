"""The neurons of other libraries as calls of this package's kernels, a file per library."""
