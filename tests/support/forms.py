"""The forms of a layer that CUDA has kernels for, and other layers: arguments of the layer, and options of the call."""

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

# Layers without a CUDA kernel of their own: backend=None leaves them to Triton, and CUDA takes them in its last two
# forms.
LEFT_TO_TRITON = {
    "axon (3, 0)": ({"axon": (3, 0)}, {}),
    "synapse (3, 0)": ({"synapse": (3, 0)}, {}),
    "read-out, axon (2, 0)": ({"axon": (2, 0)}, {"potential": "last"}),
    "read-out, synapse (2, 0)": ({"synapse": (2, 0)}, {"potential": "last"}),
    "smooth": ({}, {"smooth": True}),
    "smooth, axon (2, 0)": ({"axon": (2, 0)}, {"smooth": True}),
}
