"""Folder layouts: how a folder becomes subjects and a label space."""
