"""Asks again while a registry or an object store is away: one that restarts stops no run.

Here, and not by the platform: Argo as Kubeflow ships it does not retry a program that fails."""

import sys
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from echoplane.errors import RegistryAway, StoreAway

AWAY_S = 180.0
"""For how long a server that restarts is waited for."""
WAITS_S = {"multiplier": 0.5, "max": 10.0}

Answer = TypeVar("Answer")


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What `ask` answers, asked again for AWAY_S while it raises RegistryAway or StoreAway; `ask` may be repeated."""

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else ""
        sys.stdout.write(f"{error} Trying again, for {AWAY_S:.0f} s at most.\n")
        sys.stdout.flush()

    return Retrying(
        retry=retry_if_exception_type((RegistryAway, StoreAway)),
        wait=wait_exponential_jitter(**WAITS_S),
        stop=stop_after_delay(AWAY_S),
        before_sleep=say,
        reraise=True,
    )(ask)
