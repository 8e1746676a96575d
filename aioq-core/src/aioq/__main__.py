"""``python -m aioq``: the same as the ``aioq`` script."""

import sys

from aioq.cli import main

if __name__ == "__main__":
    sys.exit(main())
