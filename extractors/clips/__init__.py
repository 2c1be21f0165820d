"""Data roots to lists of clips: names, attributes, folders, manifests, published data sets."""
