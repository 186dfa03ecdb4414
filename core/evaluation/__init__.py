"""Metrics, and evaluation of a model on a data set."""
