"""The benchmark suite: ``hnn bench``, or ``python -m benchmarks`` in a clone. Its records are under results/."""
