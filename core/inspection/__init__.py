"""Views into data and networks: feature maps, intensity histograms, statistics of sub-volumes."""
