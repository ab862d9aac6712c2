"""`python -m echoplane.cli`, where the command is not installed."""

import sys

from echoplane.cli import main

sys.exit(main())
