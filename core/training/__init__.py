"""Training of one network: losses, optimizers, schedules, the training loop and its validation."""
