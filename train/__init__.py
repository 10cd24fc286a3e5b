"""Training: python -m train RECIPE."""
