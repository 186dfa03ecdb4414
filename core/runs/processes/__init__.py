"""The processes behind a run: queue supervisor, trainer parent, trainer."""
