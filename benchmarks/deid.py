"""De-identification: leaks beside other tools, burned-in text, speed, mutated files: `python -m benchmarks deid`."""

import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_files
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks import deid_peers, machine, results
from benchmarks.deid_recall import KEY, Found, file_of, measure_set
from benchmarks.deid_texts import BOX, COLUMNS, FONTS, OTHER_FONTS, ROWS, clips
from echoplane.deid import Outcome, Policy, deidentify_file, instance, suspects, verify
from echoplane.deid.header import Context, rebuild
from tests.unit.test_deid_corpus import corpus, mutate

SEED = 4242
"""Not looked at while the search for text was tuned; seeds 1, 77, 101 and 202 were."""
OTHER_SEEDS = (5151, 6262)
"""Nor were these."""
MUTATED, REPEATS = 10_000, 5
LONGEST_S = 5.0
Figure = dict[str, Any]


def measure() -> None:
    """All figures, in one run on the same files."""
    cv2.setNumThreads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = _leaks() + _texts() + _clip_speed() + _header_speed() + _mutated()
    text = (
        "Planted identifiers, burned-in text with known ink (masked means that at least 90 % of a text's ink is black "
        "in every frame that shows it), speed on one core, and mutated files. The other tools ran on the same files in "
        "the same run, each with its own default; deid with its ultrasound recipe."
    )
    results.record("deid", "De-identification", figures, machine.conditions("python -m benchmarks deid", SEED), text)


def _figure(figure: str, value: str, expected: str = "") -> Figure:
    return {"figure": figure, "value": value, "expected": expected}


def _leaks() -> list[Figure]:
    content, planted = corpus()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "corpus.dcm"
        source.write_bytes(content)
        outcome = deidentify_file(source, folder / "out", KEY, Policy())
        found = {"echoplane": folder / "out" / str(outcome.output)}
        for tool in deid_peers.NAMES:
            if deid_peers.run(tool, source, folder / f"{tool}.dcm") is not None:
                found[tool] = folder / f"{tool}.dcm"
        counts = {tool: _count(path.read_bytes(), planted) for tool, path in found.items()}
    missing = [tool for tool in deid_peers.NAMES if tool not in counts]
    figures = [_figure(f"planted strings left of 57, {tool}", str(count)) for tool, count in counts.items()]
    figures[0]["expected"] = "0"
    return figures + [_figure(f"planted strings left of 57, {tool}", "did not run") for tool in missing]


def _count(raw: bytes, planted: list[str]) -> int:
    raw = raw.lower()
    return sum(any(s.lower().encode(e) in raw for e in ("ascii", "utf-16-le", "utf-16-be")) for s in planted)


def _texts() -> list[Figure]:
    with ProcessPoolExecutor(2) as pool:
        easy, hard, clean = pool.map(measure_set, ("easy", "hard", "clean"), (SEED,) * 3)
        others = list(pool.map(measure_set, ("hard",) * 2, OTHER_SEEDS, (24,) * 2, (FONTS, OTHER_FONTS)))
    share_percent = 100 * statistics.mean(clean.masked_share)
    worst_percent = 100 * max(clean.masked_share)
    kinds = sorted({kind for _, kind in hard.texts})
    return [
        _figure("easy texts masked", _of(easy), "at least 144/144"),
        _figure("hard texts masked", _of(hard), "at least 140/144"),
        _figure("hard texts in the sector masked", _of(hard, "sector"), "at least 68/72"),
        *(_figure(f"hard texts masked, {kind}", _of(hard, kind=kind)) for kind in kinds),
        _figure(
            f"hard texts masked, seed {OTHER_SEEDS[0]}, in the sector", f"{_of(others[0])}, {_of(others[0], 'sector')}"
        ),
        _figure(
            f"hard texts masked, seed {OTHER_SEEDS[1]} in four other fonts, in the sector",
            f"{_of(others[1])}, {_of(others[1], 'sector')}",
        ),
        _figure("clips held instead of masked", str(sum((easy.held + hard.held + clean.held).values()))),
        _figure(
            "clean sectors blackened, mean and most of 24, %",
            f"{share_percent:.2f}, {worst_percent:.2f}",
            "mean at most 0.5",
        ),
    ]


def _of(found: Found, place: str | None = None, kind: str | None = None) -> str:
    return "{}/{}".format(*found.recall(place, kind))


def _large_clip() -> bytes:
    """60 frames of 1016 x 708, JPEG 4:2:2: the second half is the first, backwards."""
    frames = next(clips("clean", SEED, 1)).frames_THW
    frames = np.concatenate([frames, frames[::-1]])
    large = (cv2.resize(frame, (1016, 708), interpolation=cv2.INTER_CUBIC) for frame in frames)
    rows, columns = 708 / ROWS, 1016 / COLUMNS
    box = tuple(round(side * scale) for side, scale in zip(BOX, (rows, columns, rows, columns), strict=True))
    return file_of([_jpeg(frame) for frame in large], 0, box)  # type: ignore[arg-type]


def _jpeg(frame_HW: np.ndarray) -> bytes:
    cv2.putText(frame_HW, "ZWETSCHGEN, ROSALINDE", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 255, 2)
    return simplejpeg.encode_jpeg(np.repeat(frame_HW[..., None], 3, axis=2), 90, colorsubsampling="422")


def _clip_speed() -> list[Figure]:
    content = _large_clip()
    masking_s = _median_s(lambda: instance.clean(content, KEY, Policy()).to_bytes())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "clip.dcm"
        source.write_bytes(content)
        places = iter(range(REPEATS + 1))
        whole_s = _median_s(lambda: _written(deidentify_file(source, folder / str(next(places)), KEY, Policy())))
        peer_s = [deid_peers.run("deid", source, folder / f"peer-{number}.dcm") for number in range(2)]
    measured = [seconds for seconds in peer_s if seconds is not None]
    peer = f"{min(measured):.2f}" if measured else "did not run"
    ratio = f"{min(measured) / whole_s:.1f}" if measured else "none"
    return [
        _figure("60 frames 1016 x 708, header and masking, s", f"{masking_s:.2f}", "at most 0.8"),
        _figure("60 frames 1016 x 708, with verification and writing, s", f"{whole_s:.2f}", "at most 1.5"),
        _figure("60 frames 1016 x 708, deid 0.4.13, s", peer),
        _figure("times faster than deid 0.4.13, with verification", ratio, "at least 3"),
    ]


def _written(outcome: Outcome) -> None:
    if outcome.status != "written":
        raise SystemExit(f"the clip of the speed figure was not written: {outcome.reason}")


def _median_s(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _header_speed() -> list[Figure]:
    """Headers of pydicom's own files, their pixels left out, whatever their class."""
    files = [content for path in get_testdata_files("*.dcm") if (content := _without_pixels(Path(path)))]
    plain_s = _median_s(lambda: [dcmwrite(BytesIO(), dcmread(BytesIO(content))) for content in files])
    ours_s = _median_s(lambda: [_header(content) for content in files])
    verified_s = _median_s(lambda: [_verified_header(content) for content in files])
    plain, ours, verified = (len(files) / seconds for seconds in (plain_s, ours_s, verified_s))
    return [
        _figure("headers a second and core", f"{ours:.0f} (of {len(files)} files)", "at least 150"),
        _figure("headers a second and core, read again and verified", f"{verified:.0f}"),
        _figure("pydicom read and write, files a second", f"{plain:.0f}"),
        _figure("headers as a share of pydicom read and write", f"{ours / plain:.2f}, {verified / plain:.2f} verified"),
    ]


def _without_pixels(path: Path) -> bytes | None:
    """A file of pydicom that is whole, as it would be without its image; None for the broken ones."""
    try:
        dataset = dcmread(path)
        dataset.pop("PixelData", None)
        buffer = BytesIO()
        dcmwrite(buffer, dataset)
        _verified_header(buffer.getvalue())
    except Exception:  # pydicom keeps broken files to test itself with
        return None
    return buffer.getvalue()


def _header(content: bytes) -> tuple[bytes, Context]:
    original, _ = instance.read(content, Policy())
    context, _ = instance._context(original, "mr", KEY, Policy())
    built = rebuild(original, context)
    instance._finish(built, Policy(), ExplicitVRLittleEndian, pixels_clean=False)
    buffer = BytesIO()
    dcmwrite(buffer, built)
    return buffer.getvalue(), context


def _verified_header(content: bytes) -> None:
    raw, context = _header(content)
    original, _ = instance.read(content, Policy())
    expected = instance.expected_of(context)
    verify.header(raw, suspects.collect(original, expected.kept), expected)


def _mutated() -> list[Figure]:
    parts = 20
    with ProcessPoolExecutor(2) as pool:
        done = list(pool.map(_mutated_part, range(parts), [MUTATED // parts] * parts))
    outcomes = sum((outcomes for outcomes, _, _ in done), Counter())
    return [
        _figure("mutated files", str(sum(outcomes.values())), str(MUTATED)),
        _figure(
            "of them written, quarantined, refused",
            ", ".join(str(outcomes[s]) for s in ("written", "quarantined", "refused")),
        ),
        _figure("of them that made the software fail (reason internal)", str(outcomes["internal"]), "0"),
        _figure("planted strings left in their outputs", str(sum(leaks for _, leaks, _ in done)), "0"),
        _figure("slowest of them, s", f"{max(slowest for _, _, slowest in done):.2f}", f"at most {LONGEST_S:.0f}"),
    ]


def _mutated_part(part: int, count: int) -> tuple[Counter[str], int, float]:
    warnings.simplefilter("ignore")
    content, planted = corpus()
    outcomes: Counter[str] = Counter()
    leaks, slowest = 0, 0.0
    for seed in range(part * count, (part + 1) * count):
        with tempfile.TemporaryDirectory() as name:
            source = Path(name) / "a.dcm"
            source.write_bytes(mutate(content, seed))
            start = time.perf_counter()
            outcome = deidentify_file(source, Path(name) / "out", KEY, Policy())
            slowest = max(slowest, time.perf_counter() - start)
            outcomes[outcome.status] += 1
            outcomes["internal"] += outcome.reason == "internal"
            if outcome.output is not None:
                leaks += _count((Path(name) / "out" / outcome.output).read_bytes(), planted)
    return outcomes, leaks, slowest
