"""Detection before neural networks: templates, sliding windows, linear SVMs, selective search."""
