"""What a run reports while it trains: log, measurements, progress, TensorBoard events."""
