"""Families for segmentation, one package each."""
