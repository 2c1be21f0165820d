"""Figures of scores: areas, official scores of each year, intervals, comparisons."""
