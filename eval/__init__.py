"""Evaluation scripts: python -m eval.TASK."""
