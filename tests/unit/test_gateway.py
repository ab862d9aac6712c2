"""The gateway's parts: what it refuses, its store, its queue, and the report that it sends."""

import base64
import contextlib
import gc
import io
import json
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dimse_messages import C_STORE_RQ  # type: ignore[attr-defined]  # made at import
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from echoplane.errors import ConfigError
from echoplane.study.cine_files import read_cines
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import from_masks
from echoplane.tokens import change_tokens, new_token
from serving.gateway import __main__ as program
from serving.gateway import queue, retention, scp, web
from serving.gateway.copies import copy_study, name_requests
from serving.gateway.instances import Refused, read_header
from serving.gateway.queue import Backoff
from serving.gateway.receiving import IncomingFile
from serving.gateway.results import make_results
from serving.gateway.settings import GatewaySettings, Peer, Rule, read_gateway_settings
from serving.gateway.store import Store
from serving.gateway.work_errors import GiveUp
from serving.gateway.worker import Worker
from tests import dicom_files
from tests.gateway_process import ServiceDouble, answer, make_study
from tests.tiny_cine import beating_heart, slice_file

MIB = 1 << 20
NO_WAIT = Backoff(first_s=0.001, max_s=0.001, max_attempts=3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store")
    yield opened
    opened.close()


def add(store: Store, content: bytes, site: str = "lakeside") -> bool:
    incoming = IncomingFile(store.incoming, 64 * MIB)
    try:
        incoming.write(content)
        incoming.sync()
        return store.add(site, read_header(incoming.path), incoming)
    finally:
        incoming.close()


def test_a_repeated_instance_is_stored_once_and_other_content_under_its_uid_is_refused(store: Store) -> None:
    first = dicom_files.grey_clip(dicom_files.moving_disc(2))
    assert add(store, first)
    assert not add(store, first)
    assert add(store, first, "hillside"), "another site's studies are its own"
    with pytest.raises(Refused) as refused:
        add(store, dicom_files.grey_clip(dicom_files.moving_disc(3)))
    assert refused.value.status == 0xC111
    assert len(list((store.folder / "instances").iterdir())) == 2


def test_a_file_of_an_association_that_ended_within_it_is_removed(store: Store) -> None:
    settings = GatewaySettings(callers=("MODALITY",), dicom_port=0)
    server = scp.start(store, settings)
    clip = pydicom.dcmread(io.BytesIO(dicom_files.grey_clip(dicom_files.moving_disc(8))))
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(clip.SOPClassUID, clip.file_meta.TransferSyntaxUID)
    opened = entity.associate("127.0.0.1", server.socket.getsockname()[1], ae_title="ECHOPLANE", max_pdu=1024)
    request = C_STORE()
    request.MessageID, request.AffectedSOPClassUID = 1, clip.SOPClassUID
    request.AffectedSOPInstanceUID, request.Priority = clip.SOPInstanceUID, 2
    request.DataSet = io.BytesIO(encode(clip, False, True))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    *parts, _ = message.encode_msg(opened.accepted_contexts[0].context_id, 1024)
    for part in parts:
        opened.dul.send_pdu(part)
    wait_until(lambda: list(store.incoming.iterdir()))
    opened.abort()
    wait_until(lambda: gc.collect() >= 0 and not list(store.incoming.iterdir()))
    server.shutdown()


def wait_until(true: Callable[[], object]) -> None:
    until_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_one_instance_of_two_associations_at_once_is_stored_once(store: Store) -> None:
    content, added = dicom_files.grey_clip(), list[bool]()
    threads = [threading.Thread(target=lambda: added.append(add(store, content))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [False] * 7 + [True]
    assert len(list((store.folder / "instances").iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"no DICOM at all", 0xA900),
        (dicom_files.grey_clip()[:200], 0xA900),
        (dicom_files.grey_clip(change=dicom_files.without("StudyInstanceUID")), 0xA900),
        (dicom_files.grey_clip(change=dicom_files.setting(SeriesInstanceUID="../../etc/passwd")), 0xA900),
        (
            dicom_files.to_bytes(pydicom.dcmread(io.BytesIO(dicom_files.grey_clip())), DeflatedExplicitVRLittleEndian),
            0xC122,
        ),
    ],
    ids=["not-dicom", "truncated", "no-study", "bad-uid", "deflated"],
)
def test_what_cannot_be_filed_is_refused_and_leaves_no_row(store: Store, content: bytes, status: int) -> None:
    with pytest.raises(Refused) as refused:
        add(store, content)
    assert refused.value.status == status
    assert not any(planted in str(refused.value) for planted in dicom_files.PLANTED)
    with sqlite3.connect(store.folder / "gateway.db") as db:
        assert db.execute("SELECT COUNT(*) FROM instances").fetchone() == (0,)


def test_an_instance_beyond_the_maximum_size_is_refused_and_frees_its_space(store: Store) -> None:
    incoming = IncomingFile(store.incoming, MIB)
    for _ in range(3):
        incoming.write(bytes(MIB))
    with pytest.raises(Refused, match="too large"):
        incoming.sync()
    assert not incoming.path.exists()


def test_too_little_free_space_is_out_of_resources(tmp_path: Path) -> None:
    full = contextlib.closing(Store(tmp_path / "store", min_free_bytes=1 << 60))
    with full as store, pytest.raises(Refused) as refused:
        add(store, dicom_files.grey_clip())
    assert refused.value.status == 0xA700


def test_only_the_owner_may_enter_the_store_and_no_name_in_it_tells_a_patient(store: Store) -> None:
    add(store, dicom_files.grey_clip())
    paths = [store.folder, *store.folder.rglob("*")]
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in paths if path.suffix != ".db-shm")
    assert not any(word in str(path.relative_to(store.folder.parent)) for path in paths for word in ("1.2.826", "ID-8"))


def test_a_file_that_was_never_acknowledged_is_removed_at_the_next_start(store: Store) -> None:
    add(store, dicom_files.grey_clip())
    (store.incoming / "half").write_bytes(b"x")
    (store.folder / "instances" / "orphan").write_bytes(b"x")
    store.own()
    assert not list(store.incoming.iterdir())
    assert len(list((store.folder / "instances").iterdir())) == 1
    with contextlib.closing(Store(store.folder)) as second, pytest.raises(ConfigError, match="another gateway"):
        second.own()


def test_a_study_is_complete_after_its_quiet_time_and_again_if_it_grows(store: Store) -> None:
    add(store, dicom_files.grey_clip())
    assert queue.complete_studies(store, quiet_s=60) == 0
    assert queue.complete_studies(store, quiet_s=0) == 1
    (work,) = queue.due(store, 10)
    add(store, dicom_files.grey_clip(change=dicom_files.setting(SOPInstanceUID="1.2.826.0.1.3680043.8.9")))
    assert queue.complete_studies(store, quiet_s=0) == 0, "its first answer is still waiting"
    queue.finish(store, work)
    assert queue.complete_studies(store, quiet_s=0) == 1
    (again,) = queue.due(store, 10)
    assert (again.study, len(store.instances(again.study))) == (work.study, 2)


def test_work_is_tried_again_then_stuck_then_resent_by_its_operator(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    add(store, dicom_files.grey_clip())
    queue.complete_studies(store, quiet_s=0)
    for waits in (True, True, False):
        (work,) = queue.due(store, 10)
        assert queue.postpone(store, work, "the service cannot be reached", NO_WAIT) is waits
        time.sleep(0.01)
    assert queue.due(store, 10) == []
    monkeypatch.setenv("ECHOPLANE_GATEWAY_STORE", str(store.folder))
    monkeypatch.setenv("ECHOPLANE_GATEWAY_CALLERS", '["PACS"]')
    assert program.main(["stuck"]) == 3
    said = capsys.readouterr().out
    assert work.id in said
    assert "the service cannot be reached" in said
    assert not any(planted in said for planted in dicom_files.PLANTED)
    assert program.main(["resend", "unknown"]) == 1
    assert program.main(["resend", work.id]) == 0
    assert program.main(["stuck"]) == 0
    assert [one.id for one in queue.due(store, 10)] == [work.id]


def test_waits_grow_up_to_their_maximum() -> None:
    backoff = Backoff(first_s=5, max_s=900, max_attempts=20)
    waits = [backoff.wait_s(attempts) for attempts in (1, 2, 3, 20, 2000)]
    assert all(0.75 * top <= wait <= top for wait, top in zip(waits, (5, 10, 20, 900, 900), strict=True))


def test_an_old_study_is_removed_unless_something_of_it_is_stuck(store: Store) -> None:
    add(store, dicom_files.grey_clip())
    queue.complete_studies(store, quiet_s=0)
    (work,) = queue.due(store, 10)
    queue.set_aside(store, work, "reason")
    retention.remove_old(store, keep_h=0)
    assert len(list((store.folder / "instances").iterdir())) == 1
    queue.resend(store, None)
    queue.finish(store, work)
    retention.remove_old(store, keep_h=0)
    assert not list((store.folder / "instances").iterdir())
    assert add(store, dicom_files.grey_clip()), "nothing is remembered of it"


def test_a_study_that_the_gateway_has_committed_to_is_never_removed(store: Store) -> None:
    add(store, dicom_files.grey_clip())
    queue.complete_studies(store, quiet_s=0)
    queue.finish(store, queue.due(store, 10)[0])
    (instance,) = store.find("lakeside")
    assert store.commit_to("lakeside", instance.sop_uid) == instance.sop_class
    assert store.commit_to("lakeside", "1.2.3") is None
    assert store.commit_to("hillside", instance.sop_uid) is None
    retention.remove_old(store, keep_h=0)
    assert store.find("lakeside") == [instance]


def test_copies_for_training_have_random_names_and_are_made_once(tmp_path: Path, store: Store) -> None:
    add(store, dicom_files.grey_clip())
    queue.complete_studies(store, quiet_s=0)
    study, instances = store.study(queue.due(store, 10)[0].study), store.find("lakeside")
    assert copy_study(tmp_path / "copies", study, instances) == 1
    assert copy_study(tmp_path / "copies", study, instances) == 0
    (path,) = (tmp_path / "copies").rglob("*.dcm")
    assert path.read_bytes() == instances[0].path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "1.2.826" not in str(path.relative_to(tmp_path))
    name_requests(tmp_path / "copies", study, instances[0], ["b" * 16, "a" * 16, "a" * 16])
    assert copy_study(tmp_path / "copies", study, instances) == 0
    (path,) = (tmp_path / "copies").rglob("*.dcm")
    assert path.name == f"{instances[0].path.name}_{'a' * 16}_{'b' * 16}.dcm"


def test_a_taken_port_ends_the_start_with_a_sentence(store: Store) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = GatewaySettings(callers=("A",))
        server = web.WebServer(web.build(store, settings), "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConfigError, match="cannot be listened on"):
            server.start()


def test_the_first_rule_of_a_modality_and_the_peers_of_a_site_are_chosen() -> None:
    own, other = Rule(modality="US", sites=("hillside",), tasks=("a",)), Rule(modality="US")
    peers = (Peer(name="x", ae_title="X", host="h", port=1, sites=("lakeside",)), Peer(name="y", stow_url="http://y"))
    settings = GatewaySettings(callers=("A",), rules=(own, other), peers=peers)
    assert settings.rule_for("hillside", "US") == own
    assert settings.rule_for("lakeside", "US") == other
    assert settings.rule_for("lakeside", "CT") is None
    assert [peer.name for peer in settings.peers_for("hillside")] == ["y"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CALLERS", "[]", "no caller is accepted"),
        ("CALLERS", "secret", "not valid JSON"),
        ("PEERS", '[{"name": "pacs", "host": "secret"}]', "either stow_url, or ae_title, host and port"),
        ("DICOM_PORT", "secret", "dicom_port"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv("ECHOPLANE_GATEWAY_CALLERS", '["PACS"]')
    monkeypatch.setenv(f"ECHOPLANE_GATEWAY_{name}", value)
    with pytest.raises(ConfigError, match=words) as error:
        read_gateway_settings()
    assert "secret" not in str(error.value)


def test_metrics_need_the_role_operate_and_health_checks_no_token(store: Store, tmp_path: Path) -> None:
    token, entry = new_token("prometheus", "lakeside", ("operate",))
    other, predicts = new_token("pacs", "lakeside", ("predict",))
    for each in (entry, predicts):
        change_tokens(tmp_path / "tokens.json", add=each)
    add(store, dicom_files.grey_clip())
    queue.complete_studies(store, quiet_s=0)
    settings = GatewaySettings(callers=("A",), http_token_file=str(tmp_path / "tokens.json"))
    client = TestClient(web.build(store, settings))
    statuses = [
        client.get("/metrics", headers={"Authorization": f"Bearer {one}"}).status_code for one in ("no", other, token)
    ]
    assert statuses == [401, 403, 200]
    said = client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).text
    assert 'echoplane_gateway_work{kind="answer",state="waiting"} 1.0' in said
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    assert TestClient(web.build(store, GatewaySettings(callers=("A",)))).get("/metrics").status_code == 403


@pytest.fixture
def archive() -> Iterator[tuple[int, list[pydicom.Dataset]]]:
    """A peer of pynetdicom that keeps what it was sent."""
    received = list[pydicom.Dataset]()

    def keep(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        received.append(dataset)
        return 0x0000

    entity = AE(ae_title="PACS")
    entity.supported_contexts = AllStoragePresentationContexts
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    yield server.socket.getsockname()[1], received
    server.shutdown()


def test_the_report_of_a_study_reaches_the_archive_once_after_a_busy_service_and_says_the_views(
    tmp_path: Path, store: Store, archive: tuple[int, list[pydicom.Dataset]], caplog: pytest.LogCaptureFixture
) -> None:
    port, received = archive
    abstained = {
        **answer(),
        "request_id": "b" * 16,
        "label": None,
        "code": None,
        "confidence": 0.4,
        "warnings": ["no frame time"],
    }
    service = ServiceDouble(
        [
            (200, {"files": [{"index": 0, "answer": answer()}]}),
            (503, {}),
            (200, {"files": [{"index": 0, "answer": abstained}]}),
            (200, {"files": [{"index": 0, "problem": {"status": 415}}]}),
        ]
    )
    files = make_study(tmp_path / "study", 3, frames=2)
    for path in files:
        add(store, path.read_bytes())
    (tmp_path / "token").write_text("echoplane_x_y\n")
    worker = Worker(
        store,
        GatewaySettings(
            callers=("A",),
            service_url=service.url,
            token_file=str(tmp_path / "token"),
            quiet_s=0.01,
            retry_first_s=0.01,
            rules=(Rule(modality="US", copy_for_training=True),),
            copy_folder=str(tmp_path / "copies"),
            peers=(Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=port),),
        ),
    )
    worker.start()
    deadline = time.monotonic() + 60
    while not received and time.monotonic() < deadline:
        time.sleep(0.05)
    worker.close()
    service.close()
    assert len(received) == 1
    assert len(service.requests) == 4, "the first answer was kept"
    asked = sorted(path.stem.partition("_")[2] for path in (tmp_path / "copies").rglob("*.dcm"))
    assert asked == ["", answer()["request_id"], abstained["request_id"]], "feedback finds the copies"
    assert {request[:2] for request in service.requests} == {("/v1/study", "Bearer echoplane_x_y")}
    report, sources = received[0], {pydicom.dcmread(path).SOPInstanceUID for path in files}
    assert (report.PatientID, report.StudyDate) == (dicom_files.PATIENT_ID, "20260102")
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    groups = hd.sr.srread(tmp_path / "report.dcm").content.get_image_measurement_groups()
    views = [group.get_qualitative_evaluations()[0].value.meaning for group in groups]
    assert views == ["Apical four chamber", "Indeterminate"]
    assert float(groups[0].get_measurements()[0].value) == 97.0
    assert {group.source_images[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID for group in groups} < sources
    assert b"Warning: no frame time" in (tmp_path / "report.dcm").read_bytes()
    assert not any(planted in caplog.text for planted in dicom_files.PLANTED)
    assert queue.stuck(store) == []


def test_the_masks_of_a_cine_reach_the_archive_as_segmentations_and_a_report_of_its_measures(
    tmp_path: Path, store: Store
) -> None:
    pictures, labels = beating_heart(phases=4, slices=3)
    folder = tmp_path / "cine"
    folder.mkdir()
    for t, z in np.ndindex(*pictures.shape[:2]):
        slice_file(folder, f"{t}-{z}", 9.0 * z, 40.0 * t, pictures[t, z].astype(np.uint16), PatientID="P1")
    for path in sorted(folder.iterdir()):
        add(store, path.read_bytes())
    study = Study((), read_cines(folder))
    found = from_masks({"short-axis": labels}, study, expected_dice=0.9)
    reply = answer() | {
        "task": "cmr-segmentation",
        "label": found.label,
        "probabilities": {},
        "details": json.loads(json.dumps(found.details())),
        "files": {name: base64.b64encode(content).decode() for name, content in found.files(study).items()},
    }
    (instance, *_) = part = store.find("lakeside")
    with pytest.raises(GiveUp, match="echo-view-video with files cannot be written as DICOM"):
        make_results(store, [(part, reply | {"task": "echo-view-video"})])
    paths = make_results(store, [(part, reply)])
    objects = [pydicom.dcmread(path) for path in paths]
    assert [one.Modality for one in objects] == ["SEG", "SEG", "SR"]
    assert {one.StudyInstanceUID for one in objects} == {instance.study_uid}
    assert {one.PatientID for one in objects} == {"P1"}
    voxels = (objects[0].pixel_array > 0).sum()
    assert voxels == (labels[found.ed] > 0).sum()
    assert not list(store.scratch.iterdir())


def test_a_damaged_file_is_stored_or_refused_and_never_anything_else(store: Store) -> None:
    content = bytearray(dicom_files.jpeg_clip(dicom_files.moving_disc(2, 32, 32)))
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(content)
        for position in rng.integers(132, min(len(content), 1200), 4):
            damaged[position] = rng.integers(256)
        try:
            add(store, bytes(damaged[: rng.integers(200, len(damaged))]))
            outcomes.add("stored")
        except Refused as refused:
            outcomes.add(refused.kind)
    assert outcomes <= {"stored", "invalid", "conflict", "transfer-syntax"}
    assert {"stored", "invalid"} <= outcomes
