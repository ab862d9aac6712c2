"""The monitor's ways of adding many rows at once give what one row after the other gives, bad rows included."""

import gc
import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from echoplane.bundle.embeddings import distances
from echoplane.collection import collection_paused
from echoplane.monitoring import reference as reference_module
from echoplane.monitoring.drift import THRESHOLD, TaskMonitor
from echoplane.monitoring.log_reader import read_step
from echoplane.monitoring.model_monitor import Monitors
from echoplane.monitoring.prediction_log import Row, unpacked
from echoplane.monitoring.rank_streams import BETS, JUMP, gains, stakes_after
from echoplane.monitoring.reference import CANNOT_TELL, CONFIDENCE, DISTANCE
from tests.monitor_log import BUNDLE, make_reference, make_rows

DEVICES = (("GE", "VIVID E95"), ("PHILIPS", "CX50"), ("", ""))


def random_lines(seed: int, count: int) -> list[str]:
    """Returns lines of a log: most are rows, some of other sites, scanners and answers; a tenth is damaged."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        device = DEVICES[rng.integers(len(DEVICES))]
        (row,) = make_rows(1, first=number, shift=0.8, site=f"site-{rng.integers(4)}", device=device)
        content = json.loads(row.model_dump_json())
        if rng.random() < 0.2:
            content |= {"label": None, "confidence": None}
        if rng.random() < 0.1:
            content["features"].pop("contrast")
        if rng.random() < 0.1:
            content["embedding"] = content["embedding"][:8]
        lines.append(damaged(rng, content) if rng.random() < 0.1 else json.dumps(content))
    return lines


def damaged(rng: np.random.Generator, content: dict) -> str:
    text = json.dumps(content)
    return (
        text[:-20],
        "",
        text + text,
        json.dumps(content | {"patient": "unknown"}),
        json.dumps(content | {"schema_version": 2}),
        json.dumps(content | {"time": "yesterday"}),
        json.dumps(content | {"features": {"brightness": "bright"}}),
        json.dumps({name: value for name, value in content.items() if name != "embedding"}),
    )[rng.integers(8)]


def one_by_one(lines: list[str], reference) -> tuple[TaskMonitor, int, np.ndarray]:
    """Returns a monitor to which each row was added alone, the number of lines refused, and the evidence by row."""
    monitor, refused, evidence = TaskMonitor(reference.streams, reference.labels), 0, []
    for line in lines:
        try:
            row = Row.model_validate_json(line)
        except ValidationError:
            refused += 1
            continue
        values = {name: row.features.get(name, math.nan) for name in reference.names}
        embedding = unpacked([row.embedding], len(reference.centre))
        values[CONFIDENCE] = math.nan if row.confidence is None else row.confidence
        values[DISTANCE] = distances(embedding, reference.centre, reference.scale)[0]
        scanner = f"{row.manufacturer} {row.device_model}".strip() or "not stated"
        groups = (f"site {row.site}", f"manufacturer {row.manufacturer or 'not stated'}", f"model {scanner}")
        monitor.add(values, row.label or CANNOT_TELL, groups)
        evidence.append(monitor.evidence)
    return monitor, refused, np.array(evidence)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_log_with_bad_rows_read_at_once_gives_what_one_row_after_the_other_gives(tmp_path, seed):
    reference, lines = make_reference(), random_lines(seed, 450)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "predictions-1.jsonl").write_text("".join(f"{line}\n" for line in lines))
    watched = Monitors(tmp_path / "state", str(tmp_path / "log"), lambda _: reference)
    watched.step()
    expected, refused, evidence = one_by_one(lines, reference)
    model = watched.models[BUNDLE]
    found = model.monitor
    assert (watched.bad_lines, model.studies) == (refused, len(lines) - refused)
    assert refused > 20
    assert list(model.evidence) == pytest.approx(evidence, rel=1e-11)
    assert list(found.groups) == list(expected.groups)
    for group, streams in found.groups.items():
        same = expected.groups[group]
        assert np.array_equal(streams.p_values_NS, same.p_values_NS)
        assert all(map(np.array_equal, streams.pools, same.pools))
        assert streams.stakes_SB == pytest.approx(same.stakes_SB, rel=1e-11)
    assert (found.studies, found.window) == (expected.studies, expected.window)
    assert evidence.max() >= THRESHOLD
    assert (found.alarm.stream, found.alarm.studies, found.alarm.groups, found.alarm.label) == (
        expected.alarm.stream,
        expected.alarm.studies,
        expected.alarm.groups,
        expected.alarm.label,
    )


def in_turn(stakes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Returns the stakes after each study as the Simple Jumper is defined: one study and one stream after the other."""
    found = np.empty_like(factors)
    for stream, number in np.ndindex(factors.shape[:2]):
        before = found[stream, number - 1] if number else stakes[stream]
        moved = (1 - JUMP) * before + (JUMP * before.sum() + 1) / len(BETS)
        found[stream, number] = moved * factors[stream, number]
    return found


@pytest.mark.parametrize("count", [1, 2, 700])
def test_stakes_of_many_studies_are_those_of_one_study_after_the_other(count):
    rng = np.random.default_rng(count)
    stakes, factors = rng.exponential(1e3, (3, len(BETS))), gains(rng.random((3, count)))
    assert stakes_after(stakes, factors) == pytest.approx(in_turn(stakes, factors), rel=1e-12)


@pytest.mark.filterwarnings("ignore:overflow")
def test_stakes_beyond_the_largest_number_stay_infinite_and_are_never_no_number():
    factors = gains(np.full((1, 2_500), 0.999))
    found, expected = stakes_after(np.zeros((1, len(BETS))), factors), in_turn(np.zeros((1, len(BETS))), factors)
    evidence = expected.sum(axis=-1)
    assert not np.isnan(found).any()
    assert np.isinf(evidence[0, -1])
    assert np.array_equal(np.isinf(found.sum(axis=-1)), np.isinf(evidence))
    assert np.isinf(stakes_after(found[:, -1], factors[:, :3])).all()


@pytest.mark.parametrize("missing", [False, True])
def test_values_of_many_rows_are_those_of_each_row(monkeypatch, missing):
    monkeypatch.setattr(reference_module, "ROWS_AT_ONCE", 16)
    reference, rows = make_reference(), make_rows(50)
    if missing:
        rows[3] = rows[3].model_copy(update={"features": {"brightness": 0.3}})
    found = reference.values(rows)
    assert found.shape == (50, len(reference.names))
    assert np.array_equal(found, np.concatenate([reference.values([row]) for row in rows]), equal_nan=True)
    assert found[3, reference.names.index("brightness")] == rows[3].features["brightness"]
    assert np.isnan(found).sum() == missing
    assert reference.values([]).shape == (0, len(reference.names))


def test_reading_leaves_the_collection_of_garbage_as_it_was(tmp_path):
    read_step(str(tmp_path), {})
    assert gc.isenabled()
    with collection_paused():
        read_step(str(tmp_path), {})
        assert not gc.isenabled()
    assert gc.isenabled()
