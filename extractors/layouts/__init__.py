"""Ways in which recordings lie in folders: one file a concern, behind `extractors.clips`."""
