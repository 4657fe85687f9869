"""`python -m primum` is the `primum` command."""

import sys

from primum.cli import main

sys.exit(main())
