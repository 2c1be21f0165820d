"""Public data sets beside the challenge's own, a file each or a family: a module that holds ``SETS``."""
