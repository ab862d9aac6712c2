"""Command line: `python -m demo` runs the demo; `python -m demo serve` serves its champion on 127.0.0.1:3000."""

import argparse
import sys
from pathlib import Path

from echoplane.errors import EchoplaneError, unexpected

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m demo", description="The main job, end to end, on this machine.")
    parser.add_argument("action", nargs="?", choices=["run", "serve"], default="run")
    parser.add_argument("--port", type=int, default=3000, help="where `serve` listens. Default 3000")
    parser.add_argument(
        "--folder", type=Path, help="the root of another run on this machine, whose champion `serve` serves"
    )
    asked = parser.parse_args(arguments)
    try:
        return serve(asked.port, asked.folder) if asked.action == "serve" else run()
    except KeyboardInterrupt:
        print(
            "\nStopped." if asked.action == "serve" else "\nStopped. `make demo` goes on from the last finished stage."
        )
        return INTERRUPTED
    except EchoplaneError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        print(f"demo: {unexpected(error)}", file=sys.stderr)
        return 1


def run() -> int:
    from demo.run import run, summary

    for line in summary(run()):
        print(line)
    return 0


def serve(port: int, folder: Path | None) -> int:
    from demo.run import BUILD, serve

    serve(port, folder or BUILD)
    return 0


if __name__ == "__main__":
    sys.exit(main())
