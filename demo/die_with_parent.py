"""Runs a command that ends with the process that started it, even by kill -9: `python -m demo.die_with_parent COMMAND
...`.

The servers of MLflow and BentoML start workers of their own and do not notice that the demo was killed; the parent
watch of the stages (ECHOPLANE_RUNNER_PID) ends this process and all its descendants.
"""

import signal
import subprocess
import sys
from types import FrameType

from echoplane.stages.stage import die_with_runner


def main() -> int:
    die_with_runner()
    with subprocess.Popen(sys.argv[1:]) as command:

        def stop(_signal: int, _frame: FrameType | None) -> None:
            command.terminate()

        signal.signal(signal.SIGTERM, stop)
        return command.wait()


if __name__ == "__main__":
    sys.exit(main())
