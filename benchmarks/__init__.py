"""Measurements; each is run as a module, and the records are under results/."""
