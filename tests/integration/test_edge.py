"""Edge devices against a real repository on a real HTTP server: staged roll-out, attacks, cuts, clocks, kills."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tuf.api.metadata import Metadata

from echoplane import bundle as bundles
from echoplane.bundle.spec import GOLDEN
from echoplane.edge import publish
from echoplane.edge.keys import read_keys
from echoplane.edge.policy import Policy, decide
from echoplane.edge.repository import EdgeRepository, create, rotate_root
from echoplane.edge.rollout import Plan, place
from echoplane.edge.upload import receive
from echoplane.errors import ConfigError
from serving.edge.device import Device
from tests.edge_site import TASK, Site, make_bad_bundle
from tests.monitor_log import make_rows
from tests.tiny_bundle import make_tiny_bundle

DEVICES = [f"box-{number}" for number in range(10)]
FIRST, *OTHERS = sorted(DEVICES, key=place)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles that pass their golden check."""
    folder = tmp_path_factory.mktemp("good")
    return make_tiny_bundle(folder / "a", 1), make_tiny_bundle(folder / "b", 2)


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, signed and whole, whose model does not give its golden outputs."""
    return make_bad_bundle(tmp_path_factory.mktemp("bad") / "bundle")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    found.close()


def offer(site: Site, folder: Path, ring: str = "all") -> str:
    return publish.publish(site.repository, "stable", folder, ring, DEVICES).bundle


def serving(device: Device) -> str | None:
    """The bundle behind the link that the service reads, every digest checked."""
    link = device.agent.slots.link(TASK)
    return bundles.read(link.resolve()).id if link.exists() else None


def test_a_good_bundle_reaches_one_device_then_a_tenth_then_all(site: Site, good: tuple[Path, Path]) -> None:
    devices = {name: site.device(name) for name in DEVICES}
    old = offer(site, good[0])
    assert {device.cycle().tasks[TASK].bundle for device in devices.values()} == {old}
    new = offer(site, good[1], "first")
    for ring, expected in (("first", 1), ("tenth", 1), ("all", 10)):
        publish.widen(site.rollout(), ring, DEVICES)
        reports = [device.cycle() for device in devices.values()]
        assert [r.device for r in reports if r.tasks[TASK].bundle == new].count(FIRST) == 1
        assert sum(r.tasks[TASK].bundle == new for r in reports) == expected
    assert {device.agent.slots.previous(TASK) for device in devices.values()} == {old}
    assert len(receive(str(site.folder / "reports")).reports) == len(DEVICES)


def test_a_bad_bundle_is_halted_in_the_first_ring_and_nobody_loses_the_good_one(
    site: Site, good: tuple[Path, Path], bad: Path
) -> None:
    devices = {name: site.device(name) for name in DEVICES}
    old = offer(site, good[0])
    [device.cycle() for device in devices.values()]
    new = offer(site, bad, "first")
    report = {name: device.cycle().tasks[TASK] for name, device in devices.items()}
    assert {name for name, one in report.items() if one.wanted == new} == {FIRST}
    assert report[FIRST].state == "refused"
    assert "golden output" in report[FIRST].reason
    assert {serving(device) for device in devices.values()} == {old}
    plan = publish.plan_of(site.repository, "stable").tasks[TASK]
    decision = decide(plan, TASK, receive(str(site.folder / "reports")), Policy(), datetime.now(UTC))
    assert decision.action == "halt"
    publish.halt(site.rollout(), decision.reason)
    after = devices[FIRST].cycle().tasks[TASK]
    assert (after.state, after.bundle, after.wanted) == ("serving", old, old)


def test_a_bundle_that_abstains_more_in_service_is_halted_by_what_the_device_counts(
    site: Site, good: tuple[Path, Path], tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    device = site.device(FIRST, prediction_log=spool, results=f"{site.url}/results")
    old = offer(site, good[0])
    device.cycle()
    write_answers(spool / "predictions-1-7.jsonl", old, abstained=15)
    device.cycle()
    new = offer(site, good[1], "first")
    device.cycle()
    write_answers(spool / "predictions-2-7.jsonl", new, abstained=90)
    (before, after) = sorted(device.cycle().tasks[TASK].service, key=lambda one: one.since)
    assert (before.bundle, before.answers, before.abstained) == (old, 300, 15)
    assert (after.bundle, after.attempt, after.answers, after.abstained) == (new, 1, 300, 90)
    assert [path.name for path in spool.iterdir()] == ["predictions-2-7.jsonl"], "what was counted is sent and gone"
    plan = publish.plan_of(site.repository, "stable").tasks[TASK]
    decision = decide(plan, TASK, receive(str(site.folder / "reports")), Policy(), datetime.now(UTC))
    assert decision.action == "halt"
    assert '"cannot tell" in 90 of 300 answers (30.0%); the stable bundle on the same devices: 15' in decision.reason
    publish.halt(site.rollout(), decision.reason)
    assert device.cycle().tasks[TASK].bundle == old
    publish.resume(site.rollout())
    counts = {one.bundle: one.answers for one in device.cycle().tasks[TASK].service}
    assert counts == {old: 300, new: 0}, "a new attempt is judged anew"


def write_answers(path: Path, bundle: str, abstained: int) -> None:
    """Writes 300 answers as the service does."""
    rows = make_rows(300, bundle=bundle)
    changes = [{"time": datetime.now(UTC)} | ({"label": None} if n < abstained else {}) for n in range(len(rows))]
    lines = [row.model_copy(update=change).model_dump_json() for row, change in zip(rows, changes, strict=True)]
    path.write_text("".join(f"{line}\n" for line in lines))


def test_a_halt_takes_a_bundle_back_everywhere_with_its_reason(site: Site, good: tuple[Path, Path]) -> None:
    devices = [site.device(name) for name in DEVICES[:4]]
    old = offer(site, good[0])
    [device.cycle() for device in devices]
    new = offer(site, good[1])
    assert {device.cycle().tasks[TASK].bundle for device in devices} == {new}
    publish.halt(site.rollout(), "more abstentions at two sites")
    site.requests.clear()
    reports = [device.cycle().tasks[TASK] for device in devices]
    assert {one.bundle for one in reports} == {old}
    assert all("more abstentions at two sites" in one.last_change for one in reports)
    assert not [path for _, path, _ in site.requests if "/bundles/" in path], "the previous bundle is still there"
    publish.resume(site.rollout())
    assert {device.cycle().tasks[TASK].bundle for device in devices} == {new}


def test_a_bundle_that_the_service_does_not_take_is_taken_back(site: Site, good: tuple[Path, Path]) -> None:
    old = offer(site, good[0])
    site.device("box-1").cycle()
    offer(site, good[1])
    deaf = site.device("box-1", service_url=f"{site.url}/nobody", take_s=0.2)
    report = deaf.cycle().tasks[TASK]
    assert (report.state, report.bundle) == ("refused", old)
    assert "did not take the bundle" in report.reason


def test_metadata_that_was_tampered_replayed_expired_or_signed_by_others_is_refused(
    site: Site, good: tuple[Path, Path], tmp_path: Path
) -> None:
    old = offer(site, good[0])
    earlier = tmp_path / "earlier"
    shutil.copytree(site.published, earlier)
    device = site.device("box-1")
    device.cycle()
    offer(site, good[1], "all")
    whole = tmp_path / "whole"
    shutil.copytree(site.published, whole)
    (stranger := tmp_path / "stranger").mkdir()
    strange = create(stranger / "published", stranger / "keys")
    publish.publish(strange, "stable", good[1], "all", DEVICES)

    def tamper() -> None:
        newest = max((site.published / "metadata").glob("*.plan.json"), key=lambda path: int(path.name.split(".")[0]))
        newest.write_bytes(newest.read_bytes().replace(b'"length":', b'"length":1'))

    def expire() -> None:
        keyring = read_keys([site.folder / "keys"])
        late = EdgeRepository(site.published, keyring)
        late.now = datetime.now(UTC) - timedelta(days=400)
        publish.refresh(late)

    def mis_sign() -> None:
        path = site.published / "metadata" / "timestamp.json"
        metadata = Metadata.from_bytes(path.read_bytes())
        metadata.signed.version += 1
        metadata.to_file(str(path))

    def replace_by(folder: Path) -> Callable[[], None]:
        return lambda: shutil.copytree(folder, site.published, dirs_exist_ok=True) and None

    newer = site.device("box-2")
    newer.cycle()
    attacks = {
        "tampered": tamper,
        "expired": expire,
        "mis-signed": mis_sign,
        "of a stranger": replace_by(stranger / "published"),
    }
    for name, attack in attacks.items():
        shutil.rmtree(site.published)
        shutil.copytree(whole, site.published)
        attack()
        report = device.cycle()
        assert report.problem, name
        assert serving(device) == old, name
    shutil.rmtree(site.published)
    shutil.copytree(earlier, site.published)
    report = newer.cycle()
    assert "BadVersionNumber" in report.problem, "a downgrade to what was published earlier"
    shutil.rmtree(site.published)
    shutil.copytree(whole, site.published)
    assert device.cycle().tasks[TASK].bundle == serving(newer) != old


def test_a_file_of_a_bundle_that_was_changed_in_the_store_is_never_opened(site: Site, good: tuple[Path, Path]) -> None:
    old = offer(site, good[0])
    device = site.device("box-1")
    device.cycle()
    new = offer(site, good[1])
    (stored,) = (site.published / "targets" / "bundles" / new).glob("*.model.onnx")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    report = device.cycle().tasks[TASK]
    assert (report.state, report.bundle) == ("waiting", old)
    assert "not the file that was signed" in report.reason
    stored.write_bytes(whole)
    assert device.cycle().tasks[TASK].bundle == new


def test_stolen_online_keys_bring_no_bundle_of_their_own(site: Site, good: tuple[Path, Path], bad: Path) -> None:
    old = offer(site, good[0])
    device = site.device("box-1")
    device.cycle()
    stolen = EdgeRepository(site.published, read_keys([site.folder / "keys" / "online"]))
    with pytest.raises(ConfigError, match="role targets needs 2 of its keys"):
        publish.publish(stolen, "stable", bad, "all", DEVICES)
    forged = Plan.model_validate(
        {"channel": "stable", "tasks": {TASK: {"stable": bundles.read(bad).id, "candidate": None}}}
    )
    with stolen.edit_targets("plan") as targets:
        stolen.add_target(targets, "plans/stable.json", forged.model_dump_json().encode())
    stolen.finish()
    report = device.cycle().tasks[TASK]
    assert report.state == "waiting"
    assert "not signed by the offline keys" in report.reason
    assert serving(device) == old


def test_devices_follow_a_rotation_of_the_root_keys(site: Site, good: tuple[Path, Path], tmp_path: Path) -> None:
    rotate_root(site.repository, tmp_path / "new-keys")
    bundle = offer(site, good[0])
    assert site.device("box-1").cycle().tasks[TASK].bundle == bundle


def test_a_download_that_is_cut_continues_at_the_byte(site: Site, good: tuple[Path, Path]) -> None:
    bundle = offer(site, good[0])
    device = site.device("box-1")
    site.cut_after = 20_000
    assert device.cycle().tasks[TASK].bundle == bundle
    golden = [asked for _, path, asked in site.requests if path.endswith(GOLDEN)]
    size = (good[0] / GOLDEN).stat().st_size
    assert golden == ["", *(f"bytes={start}-" for start in range(20_000, size, 20_000))]


def test_a_device_that_starts_without_network_serves_what_it_had(site: Site, good: tuple[Path, Path]) -> None:
    bundle = offer(site, good[0])
    site.device("box-1").cycle()
    site.down = True
    restarted = site.device("box-1")
    report = restarted.cycle()
    assert "out of reach" in report.problem
    assert (report.tasks[TASK].bundle, serving(restarted)) == (bundle, bundle)
    assert report.tasks[TASK].state == "serving"


def test_a_clock_that_is_wrong_by_decades_serves_and_is_reported(site: Site, good: tuple[Path, Path]) -> None:
    bundle = offer(site, good[0])
    site.device("box-1").cycle()
    early = site.device("box-1", clock=lambda: datetime(1970, 1, 1, tzinfo=UTC))
    report = early.cycle()
    assert "1970" in report.clock
    assert (report.tasks[TASK].bundle, serving(early)) == (bundle, bundle)
    again = site.device("box-1").cycle()
    assert again.clock == ""


def test_metadata_that_expired_before_the_clock_was_set_back_is_not_followed(
    site: Site, good: tuple[Path, Path]
) -> None:
    bundle = offer(site, good[0])
    late = datetime.now(UTC) + timedelta(days=40)
    site.device("box-1", clock=lambda: late).cycle()
    offer(site, good[1])
    device = site.device("box-1")
    report = device.cycle()
    assert "expired before" in report.problem
    assert serving(device) == bundle


def test_a_full_disk_leaves_the_old_bundle_serving(
    site: Site, good: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = offer(site, good[0])
    device = site.device("box-1")
    device.cycle()
    offer(site, good[1])
    usage = shutil.disk_usage(site.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    site.requests.clear()
    report = device.cycle().tasks[TASK]
    assert (report.state, report.bundle, serving(device)) == ("waiting", bundle, bundle)
    assert "are free" in report.reason
    assert not [path for _, path, _ in site.requests if "/bundles/" in path], "space is checked before a download"


def test_twenty_kills_at_random_points_leave_a_device_that_serves(site: Site, good: tuple[Path, Path]) -> None:
    """The check is a double that only reads the digests, so that a forked process is quick."""
    seen = {offer(site, good[0])}
    options = {"check_bundle": lambda task, folder: bundles.read(folder)}
    site.device("box-1", **options).cycle()
    rng, killed = np.random.default_rng(7), 0
    while killed < 20:
        seen.add(publish.publish(site.repository, "stable", good[killed % 2], "all", DEVICES).bundle)
        pid = os.fork()
        if pid == 0:
            site.device("box-1", **options).cycle()
            os._exit(0)
        time.sleep(rng.uniform(0, 0.12))
        os.kill(pid, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert serving(site.device("box-1", **options)) in seen
    last = publish.plan_of(site.repository, "stable").tasks[TASK].candidate.bundle
    assert site.device("box-1", **options).cycle().tasks[TASK].bundle == last
