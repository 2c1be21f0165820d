"""Banks that score without this project."""
