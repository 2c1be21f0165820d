"""Training clips in memory: waveforms, sampling, batches, augmentation."""
