"""Output of a training run: log, metrics, terminal progress, TensorBoard events."""
