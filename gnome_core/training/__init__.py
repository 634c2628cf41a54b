"""Data, losses, schedules, checkpoints and the training loop."""
