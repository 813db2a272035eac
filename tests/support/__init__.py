"""Code that several tests share: inputs, comparisons, stand-ins, and scripts for processes of their own."""
