"""Files that are whole or not there: places, atomic writes, locks, bounds on what is read."""
