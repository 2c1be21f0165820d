"""Synthetic sounds: methods, what is made of what, and the folder they are written to."""
