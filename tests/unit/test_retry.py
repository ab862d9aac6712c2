"""What is asked again while a server is away, and what is not."""

import pytest

from echoplane import retry
from echoplane.errors import BundleError, RegistryUnavailable, StoreUnavailable
from echoplane.retry import retry_while_unavailable


class Server:
    """Answers `answer` after it raised these."""

    def __init__(self, *errors: Exception) -> None:
        self._errors, self.asked = list(errors), 0

    def __call__(self) -> str:
        self.asked += 1
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "WAITS_S", {"multiplier": 0.01, "max": 0.01, "jitter": 0.0})


def test_a_registry_and_a_store_that_come_back_are_waited_for_aloud(capsys: pytest.CaptureFixture) -> None:
    server = Server(RegistryUnavailable("no registry."), StoreUnavailable("no store."))
    assert retry_while_unavailable(server) == "answer"
    assert server.asked == 3
    assert capsys.readouterr().out.splitlines() == [
        "no registry. Trying again, for 180 s at most.",
        "no store. Trying again, for 180 s at most.",
    ]


def test_what_waiting_can_not_mend_is_raised_at_once() -> None:
    server = Server(BundleError("refused"))
    with pytest.raises(BundleError, match="refused"):
        retry_while_unavailable(server)
    assert server.asked == 1


def test_a_server_that_stays_away_is_given_up_with_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "UNAVAILABLE_S", 0.05)
    server = Server(*[StoreUnavailable("still no store")] * 1000)
    with pytest.raises(StoreUnavailable, match="still no store"):
        retry_while_unavailable(server)
    assert 1 < server.asked < 100
