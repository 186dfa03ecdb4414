"""Everything in Segmentarium that works without a browser."""

import os

__version__ = "0.1.0"

# Threads of OpenMP that wait for one another spin for some microseconds, then sleep, instead of spinning for
# milliseconds. Read when torch is loaded, hence here. Idle machines notice nothing; where others use the machine too, a
# training step takes a fraction of the time (benchmarks/NOTES.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
