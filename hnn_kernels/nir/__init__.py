"""Exchange of networks with other libraries through NIR, the Neuromorphic Intermediate Representation.

NIR (Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9) describes neurons by differential equations, and so knows no
time step. :func:`export` and :func:`load` pass between these equations and our steps by forward Euler with the step
``dt``, as snnTorch, SpikingJelly and Norse do (:mod:`hnn_kernels.nir.equations` has the derivation).

The package ``nir`` is needed, from 1.0.7 on: the extra ``nir``. docs/nir.md shows what fits to which library.
"""

from ..nn import EachStep
from .exporting import NIRWarning, export
from .loading import load
from .network import Network

__all__ = ["EachStep", "NIRWarning", "Network", "export", "load"]
