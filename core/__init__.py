"""Everything in Segmentarium that works without a browser."""

import os

__version__ = "0.1.0"

# Threads that wait for one another sleep instead of spinning. OpenMP reads this when torch is loaded, hence here. On an
# idle machine it costs little; where others use the machine too, a training step takes a fraction of the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
