"""What every package stands on: errors, options, command lines, progress, names of plug-ins."""
