"""The hybrid network: its notation, its layers, and the table that shows them."""
