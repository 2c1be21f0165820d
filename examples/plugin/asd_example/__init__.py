"""A scorer, a backbone and a pooling for machine-asd, one file each."""
