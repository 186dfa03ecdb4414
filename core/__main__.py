"""``python -m core``: the command line, also installed as ``segmentarium``."""

import sys

from core.cli import main

if __name__ == "__main__":
    sys.exit(main())
