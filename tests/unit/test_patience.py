"""What is asked again while a server is away, and what is not."""

import pytest

from echoplane import patience
from echoplane.errors import BundleError, RegistryAway, StoreAway
from echoplane.patience import patiently


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
    monkeypatch.setattr(patience, "WAITS_S", {"multiplier": 0.01, "max": 0.01, "jitter": 0.0})


def test_a_registry_and_a_store_that_come_back_are_waited_for_aloud(capsys: pytest.CaptureFixture) -> None:
    server = Server(RegistryAway("no registry."), StoreAway("no store."))
    assert patiently(server) == "answer"
    assert server.asked == 3
    assert capsys.readouterr().out.splitlines() == [
        "no registry. Trying again, for 180 s at most.",
        "no store. Trying again, for 180 s at most.",
    ]


def test_what_waiting_can_not_mend_is_raised_at_once() -> None:
    server = Server(BundleError("refused"))
    with pytest.raises(BundleError, match="refused"):
        patiently(server)
    assert server.asked == 1


def test_a_server_that_stays_away_is_given_up_with_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "AWAY_S", 0.05)
    server = Server(*[StoreAway("still no store")] * 1000)
    with pytest.raises(StoreAway, match="still no store"):
        patiently(server)
    assert 1 < server.asked < 100
