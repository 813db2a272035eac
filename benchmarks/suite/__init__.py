"""The suite ``hnn bench``: the run over all cases, and the command line."""
