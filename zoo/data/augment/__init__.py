"""Augmentation of images with their annotations, of images alone, and of whole batches."""
