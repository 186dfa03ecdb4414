"""Devices, processes, threads, memory and precision: what training and inference run on."""
