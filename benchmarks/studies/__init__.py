"""Measurements outside the suite, each a command of its own: a call's fixed cost, and a whole training step."""
