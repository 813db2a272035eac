"""The forms of a layer that have kernels of their own: arguments of the layer, and options of the call."""

# The forms that csrc/cuda/choose.h has kernels for; float64 has the last one alone. Triton compiles a kernel for each,
# too.
FORMS = {
    "plain": ({}, {}),
    "no filters": ({"reset": "subtract"}, {}),
    "synapse (1, 0)": ({"synapse": (1, 0)}, {}),
    "synapse (2, 0)": ({"synapse": (2, 0)}, {}),
    "axon (1, 0)": ({"axon": (1, 0)}, {}),
    "axon (2, 0)": ({"axon": (2, 0)}, {"surrogate": "arctan"}),
    "usual, axon (2, 0)": ({"axon": (2, 0)}, {}),
    "axon (2, 1)": ({"axon": (2, 1)}, {}),
    "read-out": ({}, {"potential": "max"}),
    "general": ({"synapse": (2, 1), "axon": (1, 1)}, {}),
    "anything": ({"synapse": (3, 1), "axon": (1, 1)}, {}),
}
