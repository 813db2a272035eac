"""Neurons by definition: a Python function of one step is traced with symbols, differentiated, and written as C++."""
