"""Repeats a call while a registry or an object store is unavailable, so that a restart of either stops no run.

The retry is here and not in the platform: Argo as Kubeflow ships it does not retry a program that fails."""

import sys
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from echoplane.errors import RegistryUnavailable, StoreUnavailable

UNAVAILABLE_S = 180.0
"""Maximum time in seconds to wait for a server that restarts."""
WAITS_S = {"multiplier": 0.5, "max": 10.0}

Answer = TypeVar("Answer")


def retry_while_unavailable(ask: Callable[[], Answer]) -> Answer:
    """Returns what `ask` returns.

    Repeats it for UNAVAILABLE_S while it raises RegistryUnavailable or StoreUnavailable; it must be safe to repeat.
    """

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else ""
        sys.stdout.write(f"{error} Trying again, for {UNAVAILABLE_S:.0f} s at most.\n")
        sys.stdout.flush()

    return Retrying(
        retry=retry_if_exception_type((RegistryUnavailable, StoreUnavailable)),
        wait=wait_exponential_jitter(**WAITS_S),
        stop=stop_after_delay(UNAVAILABLE_S),
        before_sleep=say,
        reraise=True,
    )(ask)
