"""The training itself: epochs, steps, its state on disk, the file at its end."""
