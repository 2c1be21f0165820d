"""Weights files: where they lie, how they come there, which one a backbone is given."""
