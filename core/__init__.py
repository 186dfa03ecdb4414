"""Segmentarium without its web pages: data, models, training, inference, evaluation, runs and the command line."""

import os

__version__ = "0.1.0"

# OpenMP threads that wait at a barrier spin for microseconds instead of milliseconds before they sleep: much faster on
# a shared machine, no difference on an idle one (benchmarks/NOTES.md). Read when torch is loaded, hence set here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
