"""Augmentations, one a file; a file's name is the augmentation's name."""
