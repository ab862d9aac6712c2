"""The service's parts without a server: who is let in, how models are swapped, what is configured."""

import asyncio
import contextlib
import gc
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from _bentoml_impl.server.serving import server_on_deployment

from echoplane import runtimes
from echoplane.errors import BundleError, ConfigError, InputError
from echoplane.runtimes import InferenceSettings, openvino, recorded_settings
from echoplane.settings import ServingSettings, read_serving_settings
from echoplane.study.study import Study
from serving.api.http import app, problems, uploads
from serving.api.http.limits import Admission, Limits
from serving.api.http.problems import Problem
from serving.api.http.turns import Turns
from serving.api.models import slots
from serving.api.models.slots import RETRY_S, Model, Slot
from serving.api.models.sources import FolderSource, ModelVersion, RegistrySource, configured_sources
from serving.service import EchoplaneService
from tests import dicom_files as dicom
from tests.serving_app import Asking, posted
from tests.tiny_bundle import make_tiny_bundle

TASK = "echo-view-video"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [make_tiny_bundle(tmp_path_factory.mktemp("bundles") / str(seed), seed) for seed in range(2)]


@pytest.fixture
def link(tmp_path: Path, folders: list[Path]) -> Path:
    link = tmp_path / "champion"
    link.symlink_to(folders[0])
    return link


@pytest.fixture
def slot(link: Path) -> Iterator[Slot]:
    slot = Slot(TASK, FolderSource(link), {"precision": "f32"})
    slot.refresh()
    yield slot
    slot.close()


def point(link: Path, folder: Path) -> None:
    link.unlink()
    link.symlink_to(folder)


def ask(
    slot: Slot,
    settings: ServingSettings,
    content: Callable[[], AsyncIterator[bytes]] | bytes,
    path: str = f"/v1/{TASK}",
) -> httpx.Response:
    """One raw DICOM body through the app, without a server."""

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app.build(app.Service({TASK: slot}, settings)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            body = content if isinstance(content, bytes) else content()
            return await client.post(path, content=body, headers={"content-type": "application/dicom"})

    return asyncio.run(post())


def admission(max_in_flight: int = 1, threads: int = 1, deadline_s: float = 10, **limits: float) -> Admission:
    rest = {"max_queued": 0, "queue_timeout_s": 1, "max_held_bytes": 1 << 20} | limits
    return Admission(Limits(max_in_flight=max_in_flight, threads=threads, deadline_s=deadline_s, **rest))


async def until_idle(limited: Admission) -> None:
    while limited.places.taken:
        await asyncio.sleep(0.01)


async def answered(limited: Admission, work: Callable[[], object], caller: str = "one") -> object:
    """The result of `work`, or the status of the problem that it became."""
    try:
        async with limited.request(caller) as request:
            await request.start()
            return await request.run(work)
    except Problem as problem:
        return problem.status


def test_a_deadline_gives_504_and_keeps_the_place_until_the_thread_is_done() -> None:
    release, limited = threading.Event(), admission(deadline_s=0.05)

    async def scenario() -> list[object]:
        statuses = [await answered(limited, lambda: release.wait(10)), await answered(limited, lambda: 200)]
        release.set()
        await until_idle(limited)
        return [*statuses, await answered(admission(), lambda: 200)]

    assert asyncio.run(scenario()) == [504, 429, 200]


def test_e21_a_request_waits_for_a_place_before_it_gets_429() -> None:
    limited = admission(max_queued=2)

    async def scenario() -> list[object]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answered(limited, lambda: time.sleep(0.05))) for _ in range(4)]
        return [task.result() for task in tasks]

    assert asyncio.run(scenario()) == [None, None, None, 429]


def test_e21_a_request_that_waits_too_long_gets_429() -> None:
    release, limited = threading.Event(), admission(max_queued=2, queue_timeout_s=0.05)

    async def scenario() -> object:
        busy = asyncio.create_task(answered(limited, lambda: release.wait(10)))
        await asyncio.sleep(0)
        late = await answered(limited, lambda: 200)
        release.set()
        await busy
        return late

    assert asyncio.run(scenario()) == 429


def test_s5_all_files_of_a_request_share_one_deadline() -> None:
    limited = admission(deadline_s=0.3)

    async def scenario() -> list[int]:
        statuses = []
        async with limited.request("one") as request:
            await request.start()
            for _ in range(20):
                try:
                    await request.run(lambda: time.sleep(0.1))
                    statuses.append(200)
                except Problem as problem:
                    statuses.append(problem.status)
        return statuses

    start = time.monotonic()
    statuses = asyncio.run(scenario())
    assert set(statuses) == {200, 504}
    assert statuses == sorted(statuses)
    assert time.monotonic() - start < 1


def test_s6_a_body_that_is_being_received_takes_no_place() -> None:
    limited = admission()

    async def scenario() -> object:
        async with contextlib.AsyncExitStack() as receiving:
            for _ in range(50):
                await receiving.enter_async_context(limited.request("one"))
            return await answered(limited, lambda: 200)

    assert asyncio.run(scenario()) == 200


def test_s6_all_bodies_together_hold_a_bounded_number_of_bytes() -> None:
    limited = admission(max_held_bytes=1000)

    async def scenario() -> None:
        async with limited.request("one") as first, limited.request("one") as second:
            first.hold_bytes(600)
            with pytest.raises(Problem) as refused:
                second.hold_bytes(600)
            assert refused.value.status == 429
        async with limited.request("one") as third:
            third.hold_bytes(1000)

    asyncio.run(scenario())
    assert limited.held_bytes == 0


def test_work_that_never_got_a_thread_is_dropped_at_its_deadline() -> None:
    release, limited, ran = threading.Event(), admission(max_in_flight=2, deadline_s=0.1), []

    async def scenario() -> None:
        busy = asyncio.create_task(answered(limited, lambda: release.wait(10)))
        await asyncio.sleep(0)
        assert await answered(limited, lambda: ran.append(1)) == 429
        release.set()
        await busy
        await until_idle(limited)

    asyncio.run(scenario())
    assert ran == []


def test_a_caller_whose_files_take_long_keeps_no_other_caller_waiting() -> None:
    """Two threads: one caller takes both and waits for more; another has a third, and there are no more than that."""
    release, limited = threading.Event(), admission(max_in_flight=8, threads=2, deadline_s=10)

    async def scenario() -> None:
        slow = [asyncio.create_task(answered(limited, lambda: release.wait(10), "slow")) for _ in range(6)]
        await asyncio.sleep(0)
        assert limited.threads.taken == 2
        assert [await answered(limited, lambda: 200, "other") for _ in range(3)] == [200] * 3
        third = [asyncio.create_task(answered(limited, lambda: release.wait(10), name)) for name in ("third", "fourth")]
        await asyncio.sleep(0.05)
        assert limited.threads.taken == 3
        release.set()
        assert await asyncio.gather(*slow, *third) == [True] * 8
        assert (limited.threads.taken, limited.places.taken) == (0, 0)

    asyncio.run(scenario())


def test_a_turn_that_nobody_waits_for_any_more_is_given_to_the_next() -> None:
    turns = Turns(1)

    async def scenario() -> None:
        for _ in range(2):
            await turns.take("one")
            waiting = [asyncio.create_task(turns.take("one")) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            turns.give_back("one")
            waiting[1].cancel()  # just after it was given
            await asyncio.wait(waiting)
            assert not waiting[2].cancelled()
            assert turns.taken == 1
            turns.give_back("one")
            assert turns.taken == 0

    asyncio.run(scenario())


def failing(release: threading.Event) -> Callable[[], None]:
    """Work that fails when it is released, with a patient's name in its message."""

    def fail() -> None:
        release.wait(10)
        raise ValueError(dicom.PATIENT)

    return fail


def test_of_several_late_files_none_is_logged_and_all_are_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    releases, limited = [threading.Event(), threading.Event()], admission(threads=2, deadline_s=0.1)

    async def scenario() -> None:
        async with limited.request("one") as request:
            await request.start()
            runs = [request.run(failing(release)) for release in releases]
            outcomes = await asyncio.gather(*runs, return_exceptions=True)
            assert [outcome.status for outcome in outcomes] == [504, 504]
            releases[1].set()
            await asyncio.sleep(0.1)
        assert limited.places.taken == 1
        releases[0].set()
        await until_idle(limited)

    asyncio.run(scenario())
    gc.collect()
    assert dicom.PATIENT not in caplog.text


def test_a_client_that_left_keeps_its_place_until_its_thread_ends(caplog: pytest.LogCaptureFixture) -> None:
    release, limited = threading.Event(), admission()

    async def scenario() -> None:
        task = asyncio.create_task(answered(limited, failing(release)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert limited.places.taken == 1
        release.set()
        await until_idle(limited)

    asyncio.run(scenario())
    gc.collect()
    assert dicom.PATIENT not in caplog.text


def test_a_held_file_is_closed_when_the_request_is_over(tmp_path: Path) -> None:
    file = (tmp_path / "upload").open("w+b")

    async def scenario() -> None:
        async with admission().request("one") as request:
            request.hold([file])
            assert not file.closed

    asyncio.run(scenario())
    assert file.closed


def test_s6_a_body_below_the_minimum_rate_gets_408(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "GRACE_S", 0.1)

    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"D"
            await asyncio.sleep(0.1)

    start = time.monotonic()
    response = ask(slot, ServingSettings(), trickle)
    assert (response.status_code, response.json()["type"]) == (408, "urn:echoplane:problem:slow-upload")
    assert time.monotonic() - start < 2


def test_a_body_that_comes_too_slowly_gets_408(slot: Slot) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"DI"
        await asyncio.sleep(5)
        yield b"CM"

    response = ask(slot, ServingSettings(upload_timeout_s=0.05), slow)
    assert (response.status_code, response.json()["type"]) == (408, "urn:echoplane:problem:slow-upload")


def test_an_answer_over_its_deadline_gets_504(slot: Slot) -> None:
    response = ask(slot, ServingSettings(deadline_s=1e-6), dicom.jpeg_clip())
    assert (response.status_code, response.json()["type"]) == (504, "urn:echoplane:problem:deadline")


@pytest.mark.parametrize("path", [f"/v1/{TASK}", "/v1/study"])
def test_a_failure_of_our_own_says_nothing_of_the_file(
    slot: Slot, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(dicom.PATIENT)

    monkeypatch.setattr(runtimes, "answer", fail)
    response = ask(slot, ServingSettings(), dicom.jpeg_clip(), path)
    problem = response.json() if path != "/v1/study" else response.json()["files"][0]["problem"]
    assert (problem["status"], problem["type"]) == (500, "urn:echoplane:problem:unexpected")
    assert dicom.PATIENT not in response.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_a_task_that_fails_takes_no_other_tasks_answer_with_it(
    slot: Slot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left, answer = [RuntimeError("of the first task")], runtimes.answer

    def fail_once(study: Study, model: Model) -> runtimes.Answer:
        if left:
            raise left.pop()
        return answer(study, model)

    monkeypatch.setattr(runtimes, "answer", fail_once)
    asking = Asking({TASK: slot, "echo-view-image": slot}, ServingSettings(), "127.0.0.1")
    failed, answered = asking("POST", "/v1/study", **posted(dicom.jpeg_clip())).json()["files"]
    assert failed["problem"]["type"] == "urn:echoplane:problem:unexpected"
    assert answered["answer"]["probabilities"]
    assert f"{TASK}, failed: RuntimeError" in caplog.text


def test_a_replaced_model_is_closed_when_its_last_request_is_done(
    slot: Slot, link: Path, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slot.model is not None
    old, closed = slot.model, []
    monkeypatch.setattr(old.runtime, "close", lambda: closed.append(old.version))
    with slot.lease() as first:
        with slot.lease():
            point(link, folders[1])
            slot.refresh()
        assert slot.model.bundle.id != old.bundle.id
        assert first is old
        assert closed == []
    assert closed == [old.version]


def test_an_idle_model_is_closed_as_soon_as_it_is_replaced(
    slot: Slot, link: Path, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slot.model is not None
    closed: list[int] = []
    monkeypatch.setattr(slot.model.runtime, "close", lambda: closed.append(1))
    point(link, folders[1])
    slot.refresh()
    assert closed == [1]


def test_a_refused_model_is_not_tried_again_at_every_look(
    slot: Slot, link: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = make_tiny_bundle(tmp_path / "broken", seed=5)
    (broken / "card.md").write_text("another card")
    tries, load, now = [], slots.load, [0.0]

    def counted(*args: object) -> object:
        tries.append(1)
        return load(*args)

    monkeypatch.setattr(slots, "load", counted)
    monkeypatch.setattr(slots.time, "monotonic", lambda: now[0])
    point(link, broken)
    for _ in range(3):
        slot.refresh()
    assert (len(tries), slot.model is not None) == (1, True)
    assert "card.md has changed" in (slot.problem or "")
    now[0] += RETRY_S + 1
    slot.refresh()
    assert len(tries) == 2


def test_a_bundle_of_another_task_is_refused(folders: list[Path]) -> None:
    with pytest.raises(BundleError, match="is of task echo-view-video, not echo-view-still"):
        slots.load("echo-view-still", FolderSource(folders[0]).latest(), {})


def test_a_model_that_fails_its_golden_check_is_closed_and_refused(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], openvino.load

    def wrong(*args: object) -> runtimes.Runtime:
        runtime = load(*args)
        run = runtime.run
        runtime.run = lambda batch: runtimes.Outputs(run(batch).output + 100, run(batch).embedding)
        loaded.append(runtime)
        return runtime

    monkeypatch.setattr(openvino, "load", wrong)
    with pytest.raises(BundleError, match="golden output"):
        slots.load(TASK, FolderSource(folders[0]).latest(), {})
    with pytest.raises(BundleError, match="closed"):
        loaded[0].run(None)


def test_whatever_a_source_raises_the_old_model_stays(slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        kind = "folder"

        def latest(self) -> ModelVersion:
            raise OSError(5, "input/output error", "/somewhere/secret")

    slot.source = Broken()
    slot.refresh()
    assert slot.model is not None
    assert slot.problem == "OSError while looking for a model; the log has more."
    assert "secret" not in caplog.text


def test_serving_follows_the_evaluation_unless_told_otherwise(folders: list[Path], tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path / "evaluated")
    stated = {"runtime": "onnxruntime", "precision": "f32", "threads": 1}
    bundle_id = slots.bundles.read(folder).id
    (folder / "evaluation.json").write_text(json.dumps(stated | {"bundle_id": bundle_id, "figures": {}}))
    evaluated = FolderSource(folder).latest().evaluated
    assert evaluated == InferenceSettings(**stated)
    assert evaluated.overridden(runtime="openvino", threads=2).precision == "f32"
    (folder / "evaluation.json").write_text(json.dumps(stated | {"bundle_id": "of another bundle"}))
    assert FolderSource(folder).latest().evaluated == InferenceSettings()
    (folder / "evaluation.json").write_text(json.dumps(stated | {"bundle_id": bundle_id, "precision": "0.93"}))
    with pytest.raises(BundleError, match="names no runtime, precision and threads"):
        FolderSource(folder).latest()


def test_each_task_gets_its_folder_and_the_registry_the_rest(folders: list[Path]) -> None:
    (source,) = configured_sources(ServingSettings(bundles=str(folders[0]))).values()
    assert source == FolderSource(folders[0])
    named = configured_sources(
        ServingSettings(bundles=f" {TASK}={folders[0]} ", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    )
    assert named == {TASK: FolderSource(folders[0])}
    (followed,) = configured_sources(ServingSettings(MLFLOW_TRACKING_URI="http://127.0.0.1:9")).values()
    assert isinstance(followed, RegistrySource)
    assert configured_sources(ServingSettings()) == {}


@pytest.mark.parametrize(
    ("bundles", "says"),
    [
        ("/nowhere", "/nowhere is not a folder"),
        ("/tmp", "/tmp holds no readable bundle.json"),
        ("heart-mood=/nowhere", "no task 'heart-mood'"),
        (f"{TASK}=/a,{TASK}=/b", "two folders of echo-view-video"),
    ],
)
def test_a_wrong_bundle_setting_says_what_to_do(bundles: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        configured_sources(ServingSettings(bundles=bundles))


def test_a_wrong_setting_ends_the_service_before_its_workers_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECHOPLANE_BUNDLES", "modls")
    with pytest.raises(SystemExit) as ended:
        server_on_deployment(EchoplaneService)
    assert ended.value.code == 2
    assert "ECHOPLANE_BUNDLES: modls is not a folder" in capsys.readouterr().err


def test_an_unknown_path_is_answered_with_the_tasks() -> None:
    assert "echo-view-video" in problems.of_status(404).detail


def test_settings_are_read_from_the_environment_and_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOPLANE_MAX_UPLOAD_MIB", "17")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    settings = read_serving_settings()
    assert (settings.max_upload_mib, settings.mlflow_tracking_uri) == (17, "http://127.0.0.1:9")
    monkeypatch.setenv("ECHOPLANE_MAX_IN_FLIGHT", "none")
    with pytest.raises(ConfigError, match="max_in_flight"):
        read_serving_settings()


def test_every_kind_of_problem_is_described_in_the_interface() -> None:
    ours = (
        *(problems.bad_request(""), problems.too_large(1), problems.unsupported_media_type(), problems.slow_upload(1)),
        *(problems.busy(), problems.no_model("t"), problems.deadline(1), problems.unexpected()),
        *(problems.of_status(404), problems.of_status(405), problems.unauthenticated(), problems.forbidden([])),
        *(problems.rate_limit(1), problems.access_unavailable(), problems.needs_authentication()),
        *(problems.feedback_unavailable(""), problems.too_large_text(1), problems.history_unavailable()),
    )
    theirs = [error for error in InputError.__subclasses__() if error.__module__ == InputError.__module__]
    kinds = {problem.kind for problem in ours} | {error.kind for error in theirs}
    described = problems.ProblemBody.model_fields["type"].description or ""
    assert kinds == set(re.split(r",\s+| or ", described.split("is ", 1)[1].rstrip(".")))


@pytest.mark.parametrize("threads", ["65", "2007", "0", "-1"])
def test_s7_a_number_of_threads_that_no_evaluation_has_is_refused(threads: str) -> None:
    with pytest.raises(BundleError, match="evaluate again"):
        recorded_settings({"runtime": "openvino", "precision": "f32", "threads": threads})


def test_e8_a_zip_of_echo_is_told_what_to_do(slot: Slot) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.dcm", dicom.jpeg_clip())
        archive.writestr("b.dcm", dicom.jpeg_clip())
    one = ask(slot, ServingSettings(), content.getvalue())
    assert (one.status_code, one.json()["type"]) == (415, "urn:echoplane:problem:unsupported")
    assert "several files to /v1/study" in one.json()["detail"]
    study = ask(slot, ServingSettings(), content.getvalue(), "/v1/study").json()["files"][0]
    assert study["problem"]["status"] == 422
    assert "each clip of ultrasound as a file of its own" in study["problem"]["detail"]
