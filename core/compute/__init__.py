"""Compute resources of training and inference: devices, processes, threads, memory and precision."""
