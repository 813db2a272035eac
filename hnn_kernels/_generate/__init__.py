"""The writers of generated files: run by ``make surrogates``."""
