"""One scorer a file; the file name, with hyphens, is the name on the command line."""
