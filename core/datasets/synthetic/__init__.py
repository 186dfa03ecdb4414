"""Synthetic demo data: anatomy, contrast, files."""
