"""Files of a run: trajectories, logs and checkpoints."""
