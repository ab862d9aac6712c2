"""A short version of `python -m benchmarks hostile`, without the kinds that take long."""

import pytest

from benchmarks import hostile
from benchmarks.hostile_requests import SLOW

REQUESTS = 200


@pytest.mark.timeout(300)
def test_two_hundred_hostile_requests_fail_nothing_and_keep_nobody_else_from_an_answer() -> None:
    outcome = hostile.run(REQUESTS, slow=4, baseline=5, long=False)
    sent = {name: seen for name, seen in outcome.statuses.items() if name not in SLOW}
    assert sum(seen.total() for seen in sent.values()) == REQUESTS
    assert outcome.failures() == {}
    assert outcome.restarts == 0
    assert set(outcome.ordinary) == {"200"}
    assert 0 < outcome.memory_mib < 2560
