"""Clips to embeddings: reading data sets and audio, backbones, pooling."""
