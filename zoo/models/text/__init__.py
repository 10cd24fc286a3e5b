"""Families for text, one package each."""
