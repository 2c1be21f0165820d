"""Recordings to waveforms: containers, decoding, channels, windows, batches of equal length."""
