"""Public data sets beside the challenge's own, one file each: a module that holds a ``SET``."""
