"""Start the `negfast` command with `python -m negfast`."""

import sys

from negfast.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
