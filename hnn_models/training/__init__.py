"""Training: protocols, checkpoints, the runs themselves, and the machine that they run on."""
