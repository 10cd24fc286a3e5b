"""Settings that recipes of several families share."""
