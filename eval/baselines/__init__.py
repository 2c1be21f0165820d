"""The task's own baselines: an autoencoder scored by its error or by Mahalanobis distance."""
