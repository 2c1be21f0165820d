"""Ranking of systems by their official scores."""
