"""The slice viewer: axial, coronal and sagittal panes of a volume and its segmentations, rendered in the browser."""
