"""The command line as ``python -m dspex``."""

import sys

from dspex.app.cli import main

__all__: list[str] = []

sys.exit(main())
