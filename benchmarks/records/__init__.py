"""Records of measurements, and everything that is made from them: pages, the README's table, comparisons, plots."""
