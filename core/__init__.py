"""Segmentarium without its web pages: data, models, training, inference, evaluation, runs and the command line."""

import os
import sys

__version__ = "0.1.0"

# OpenMP threads that wait at a barrier spin for microseconds instead of milliseconds before they sleep: much faster on
# a shared machine, no difference on an idle one (benchmarks/NOTES.md). Read when torch is loaded, hence set here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
# Operators that an Apple GPU does not have are computed on the CPU; torch names each in a warning. Read like the above.
if sys.platform == "darwin":
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
