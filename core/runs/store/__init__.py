"""What is stored of a run: its folder, its state, the index of all runs."""
