"""Fine-tuning: labels, sampling, augmentation, heads, the training loop, synthetic sounds."""
