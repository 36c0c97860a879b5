"""`python -m boss` is `boss-study`."""

import sys

from boss.cli import main

if __name__ == "__main__":
    sys.exit(main())
