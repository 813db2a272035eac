"""A trained network at work: spikes, potentials, operations, energy, time."""
