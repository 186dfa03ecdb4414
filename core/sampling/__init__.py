"""Sub-volumes (patches) of training subjects."""
