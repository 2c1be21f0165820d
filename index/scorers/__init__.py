"""Scorers, one a file or kin in one; a file of one is called by its name on the command line, with hyphens."""
