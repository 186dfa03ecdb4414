"""Checkpoints: one safetensors file with model, training state and metadata."""
