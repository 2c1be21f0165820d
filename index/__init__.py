"""Nearest neighbours, scorers and the bank of fitted sections; no torch."""
