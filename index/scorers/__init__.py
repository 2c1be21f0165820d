"""Scorers, one a file or kin in one; a file of one has its name on the command line, with hyphens."""
