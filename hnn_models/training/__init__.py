"""Training: protocols, runs, checkpoints, and the machine that they run on."""
