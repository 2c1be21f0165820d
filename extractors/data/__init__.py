"""Data sets: what a folder of recordings holds, and where known ones come from."""
