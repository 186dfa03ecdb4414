"""Storage of runs: folder, state, index of all runs, processes and GPU slots."""
