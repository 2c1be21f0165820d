"""Heads, one a file; a file's name is the head's name."""
