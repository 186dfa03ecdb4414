"""Random augmentation of sub-volumes, image and label together."""
