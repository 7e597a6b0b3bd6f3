"""A model folder on disk, without training: its files, weights, adapters, and how it is loaded and asked."""
