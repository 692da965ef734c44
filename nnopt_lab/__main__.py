"""``python -m nnopt_lab``."""

import sys

from nnopt_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
