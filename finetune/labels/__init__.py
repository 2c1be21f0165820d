"""The classes of a training: rules, and the embeddings that some of them need."""
