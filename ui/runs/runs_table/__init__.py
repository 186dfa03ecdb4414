"""The table of runs, rendered in the browser."""
