"""The networks, written from their papers and the layout of their checkpoints; one a file."""
