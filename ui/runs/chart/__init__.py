"""The live chart of a run, rendered in the browser."""
