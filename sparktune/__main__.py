"""``python -m sparktune``."""

import sys

from sparktune.cli import main

sys.exit(main())
