"""The methods that make a sound, one a file; the file's name is its name on the command line."""
