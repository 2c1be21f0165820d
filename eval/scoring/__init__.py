"""Sections scored by a bank, and what explains a score: neighbours, maps, differences."""
