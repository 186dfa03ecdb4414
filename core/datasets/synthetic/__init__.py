"""The synthetic demo data set."""
