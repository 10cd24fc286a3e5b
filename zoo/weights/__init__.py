"""Reading public checkpoints, and the name maps, one file a source."""
