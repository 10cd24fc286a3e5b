"""Families of pretraining, one package each."""
