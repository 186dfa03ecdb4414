"""Engines that train runs: the queue of this machine, and clusters that a file in the checkpoints root declares."""
