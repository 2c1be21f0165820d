"""The network that is trained: which layers, the head above them, the loss."""
