"""Run a command that ends with whoever started it, even by kill -9: `python -m demo.die_with_parent COMMAND ...`.

MLflow's and BentoML's servers start workers of their own and know nothing of a demo that was killed; the watch of the
stages (ECHOPLANE_RUNNER_PID) ends this process and all below it.
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
