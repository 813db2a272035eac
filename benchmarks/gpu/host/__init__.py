"""The steps of ``benchmarks/gpu_host.sh``: prove and time the kernels on a machine with a GPU, within minutes."""
