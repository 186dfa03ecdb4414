"""Folder layouts, one module each: how the files of a folder become subjects and a label space."""
