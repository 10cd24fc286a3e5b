"""Loss functions: pure functions of arrays, one file a task."""
