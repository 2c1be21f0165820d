"""From a loaded backbone to vectors: outputs, recipes, number formats, batch sizes."""
