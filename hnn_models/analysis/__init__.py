"""Analysis of a network: spikes, membrane potentials, operations, energy, time."""
