"""Volumes and their geometry: headers, files, orientation, resampling, normalisation."""
