"""Five edge agents as processes on a real MinIO: roll-out, bad model, kills and an outage, as a site would see them."""

import pytest

from tests.edge_rehearsal import Step, rehearsed
from tests.minio_process import BINARY, MC, NO_MINIO

pytestmark = [pytest.mark.skipif(not (BINARY and MC), reason=NO_MINIO), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Step]:
    """The steps of one rehearsal by name, whether they ended as expected or not."""
    folder = tmp_path_factory.mktemp("fleet")
    return {step.what: step for step in rehearsed(folder, devices=5, poll_s=1, stagger_s=0.2)}


def test_a_bundle_reaches_every_agent_by_rings(steps: dict[str, Step]) -> None:
    for what in ("a bundle for devices that have none", "another by rings, widened by the policy"):
        assert steps[what].seen == steps[what].expected
        assert steps[what].requests_per_agent >= 7, "timestamp, snapshot, targets, plan, four files, a report"


def test_a_bundle_that_fails_its_golden_check_is_halted_in_the_first_ring(steps: dict[str, Step]) -> None:
    step = steps["a bundle whose golden check fails"]
    assert step.seen == step.expected


def test_a_bundle_that_cannot_tell_is_halted_by_what_its_device_counted(steps: dict[str, Step]) -> None:
    step = steps["a bundle that cannot tell"]
    assert step.seen == step.expected


def test_an_agent_killed_in_mid_download_serves_and_continues_at_the_byte(steps: dict[str, Step]) -> None:
    step = steps["agents killed in mid-download"]
    assert step.seen == step.expected


def test_a_halt_takes_a_bundle_back_from_all_agents_with_its_reason(steps: dict[str, Step]) -> None:
    step = steps["a halt after all have taken it"]
    assert step.seen == step.expected


def test_agents_serve_on_without_a_store_and_catch_up_once_it_is_back(steps: dict[str, Step]) -> None:
    for what in ("MinIO is killed", "MinIO is back, with another bundle"):
        assert steps[what].seen == steps[what].expected
    assert steps["MinIO is killed"].requests_per_agent == 0


def test_the_service_answers_through_all_of_it(steps: dict[str, Step]) -> None:
    step = steps["one device's service, asked throughout"]
    assert step.seen == step.expected
