"""The hybrid network: its notation, its description, its layers, and the table that shows them."""
