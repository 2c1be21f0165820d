"""``python -m extractors.data``."""

import sys

from extractors.data.run import main

if __name__ == "__main__":
    sys.exit(main())
