"""Data: sources, transforms and one loader for every task."""
