"""Entry point of `python -m echoplane.cli`, if the command is not installed."""

import sys

from echoplane.cli import main

sys.exit(main())
