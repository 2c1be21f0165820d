"""``python -m extractors.weights``."""

import sys

from extractors.weights.run import main

if __name__ == "__main__":
    sys.exit(main())
