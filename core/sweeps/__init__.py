"""Sweeps: which fields of a configuration are searched, which values are tried next, and which trials are pruned."""
