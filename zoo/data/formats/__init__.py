"""Readers of file formats, for training and evaluation: files to columns, without JAX."""
