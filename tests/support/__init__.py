"""What several tests share: inputs, comparisons, stand-ins, and scripts that run in a process of their own."""
