"""Families for classification, one package each."""
