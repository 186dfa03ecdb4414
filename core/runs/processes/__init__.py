"""Processes of a run: queue supervisor, trainer parent, torchrun launcher, trainer."""
