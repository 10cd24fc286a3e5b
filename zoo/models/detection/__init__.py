"""Families for detection, one package each."""
