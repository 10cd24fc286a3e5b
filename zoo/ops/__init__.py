"""Pure functions that take and return arrays."""
