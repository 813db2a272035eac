"""The writers of the generated files, which ``make generate`` runs."""
