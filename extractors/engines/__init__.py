"""Where an extraction runs: in this process, or on the machines of a Ray cluster."""
