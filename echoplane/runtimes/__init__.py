"""Running a bundle: `load` gives a Runtime, `answer` turns one study into its answer."""

from echoplane.runtimes.answer import Answer, answer
from echoplane.runtimes.runtime import DEFAULT_THREADS, Outputs, Runtime, check_golden, load

__all__ = ["DEFAULT_THREADS", "Answer", "Outputs", "Runtime", "answer", "check_golden", "load"]
