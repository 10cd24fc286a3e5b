"""Model families, one package each, in a package for each task."""
