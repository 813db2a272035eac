"""Loops over time that a user has written, turned inside out."""
