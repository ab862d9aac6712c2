"""DICOM over TLS: who may send to the gateway, and whom it sends to."""

import contextlib
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from echoplane.errors import ConfigError
from serving import certificates
from serving.gateway import peers, scp
from serving.gateway.settings import GatewaySettings, Peer
from serving.gateway.store import Store
from serving.gateway.work_errors import GiveUp, TryAgain
from tests.certificates import Authority
from tests.gateway_process import acknowledged, make_study, storescu

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("hospital"), "hospital")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def own(hospital: Authority) -> tuple[str, str]:
    return hospital.issue("gateway", "gateway.hospital")


@pytest.fixture
def port(tmp_path: Path, hospital: Authority, own: tuple[str, str]) -> Iterator[int]:
    """Port of a gateway that demands certificates of the hospital."""
    store = Store(tmp_path / "store")
    settings = GatewaySettings(
        callers=("STORESCU",),
        dicom_port=0,
        tls_certificate=own[0],
        tls_key=own[1],
        tls_client_ca=str(hospital.path),
    )
    server = scp.start(store, settings)
    assert server.socket is not None
    yield server.socket.getsockname()[1]
    server.shutdown()
    store.close()


def echoed(port: int, context: ssl.SSLContext | None) -> bool:
    entity = AE(ae_title="STORESCU")
    entity.acse_timeout = entity.network_timeout = entity.connection_timeout = 5
    entity.add_requested_context(Verification)
    arguments = (context, "gateway.hospital") if context else None
    association = entity.associate(HOST, port, ae_title="ECHOPLANE", tls_args=arguments)
    if not association.is_established:
        return False
    status = association.send_c_echo().get("Status")
    association.release()
    return status == 0


def client(authority: Authority, pair: tuple[str, str] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    if pair:
        context.load_cert_chain(*pair)
    return context


def test_only_a_sender_with_a_certificate_of_the_hospital_gets_an_association(
    port: int, hospital: Authority, stranger: Authority
) -> None:
    known = client(hospital, hospital.issue("us-room-1", "us-room-1.hospital"))
    assert echoed(port, known)
    assert not echoed(port, client(hospital)), "without a certificate"
    assert not echoed(port, client(hospital, stranger.issue("us-room-1", "us-room-1.hospital")))
    assert not echoed(port, None), "without TLS"
    assert echoed(port, known)


def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, hospital: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(certificates, "CHECK_S", 0.0)
    certificate, key = map(Path, hospital.issue("renewed", "gateway.hospital"))
    settings = GatewaySettings(callers=("STORESCU",), dicom_port=0, tls_certificate=str(certificate), tls_key=str(key))
    store = Store(tmp_path / "store")
    server = scp.start(store, settings)
    assert server.socket is not None
    port, first, old_key = server.socket.getsockname()[1], certificate.read_text(), key.read_bytes()
    assert ssl.get_server_certificate((HOST, port), timeout=5) == first
    hospital.issue("renewed", "gateway.hospital")
    second = certificate.read_text()
    assert ssl.get_server_certificate((HOST, port), timeout=5) == second != first
    key.write_bytes(old_key)
    assert [ssl.get_server_certificate((HOST, port), timeout=5) for _ in range(2)] == [second] * 2
    assert caplog.text.count("cannot be loaded") == 1
    assert echoed(port, client(hospital))
    server.shutdown()
    store.close()


def test_a_client_that_says_nothing_keeps_nobody_out(port: int, hospital: Authority) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(3):
            silent.enter_context(socket.create_connection((HOST, port)))
        assert echoed(port, client(hospital, hospital.issue("us-room-1", "us-room-1.hospital")))


@pytest.mark.skipif(not shutil.which("storescu"), reason="dcmtk's storescu is not on the PATH")
def test_dcmtk_stores_over_tls(tmp_path: Path, port: int, hospital: Authority) -> None:
    certificate, key = hospital.issue("dcmtk", "dcmtk.hospital")
    files = make_study(tmp_path / "study", 5, frames=2)
    sender = storescu(port, files, "+tls", key, certificate, "+cf", str(hospital.path))
    assert acknowledged(sender) == files
    assert acknowledged(storescu(port, files)) == []


@pytest.fixture
def archive(hospital: Authority) -> Iterator[tuple[int, list[pydicom.Dataset]]]:
    """An archive that takes TLS with certificates of the hospital alone, and what it received."""
    received: list[pydicom.Dataset] = []

    def keep(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*hospital.issue("archive", "archive.hospital"))
    context.load_verify_locations(str(hospital.path))
    context.verify_mode = ssl.CERT_REQUIRED
    entity = AE(ae_title="ARCHIVE")
    entity.supported_contexts = AllStoragePresentationContexts
    server = entity.start_server((HOST, 0), block=False, ssl_context=context, evt_handlers=[(evt.EVT_C_STORE, keep)])
    assert server is not None
    yield server.socket.getsockname()[1], received
    server.shutdown()


def test_a_result_goes_to_an_archive_that_proves_its_name_and_is_shown_our_certificate(
    tmp_path: Path, archive: tuple[int, list[pydicom.Dataset]], hospital: Authority, stranger: Authority,
    own: tuple[str, str],
) -> None:  # fmt: skip
    (path,) = make_study(tmp_path / "study", 1, frames=1)
    port, received = archive
    settings = GatewaySettings(callers=("A",), tls_certificate=own[0], tls_key=own[1], request_timeout_s=5)
    good: dict[str, Any] = {
        "name": "archive", "ae_title": "ARCHIVE", "host": HOST, "port": port, "tls": True,
        "tls_ca": str(hospital.path), "tls_name": "archive.hospital",
    }  # fmt: skip
    wrong: list[tuple[dict[str, Any], GatewaySettings]] = [
        (good | {"tls_name": "other.hospital"}, settings),
        (good | {"tls_ca": str(stranger.path)}, settings),
        (good | {"tls": False, "tls_ca": "", "tls_name": ""}, settings),
        (good, GatewaySettings(callers=("A",), request_timeout_s=5)),
    ]
    for changed, ours in wrong:
        with pytest.raises(TryAgain):
            peers.send(path, Peer(**changed), ours)
    assert received == []
    with pytest.raises(GiveUp, match="tls_ca of the peer archive"):
        peers.send(path, Peer(**(good | {"tls_ca": str(tmp_path / "absent")})), settings)
    half_renewed = settings.model_copy(update={"tls_key": str(hospital.path.with_name("archive.key"))})
    with pytest.raises(TryAgain, match="_TLS_KEY"):
        peers.send(path, Peer(**good), half_renewed)
    peers.send(path, Peer(**good), settings)
    assert [one.SOPInstanceUID for one in received] == [pydicom.dcmread(path).SOPInstanceUID]


def test_files_that_do_not_belong_together_are_refused_at_the_start(
    tmp_path: Path, hospital: Authority, own: tuple[str, str]
) -> None:
    other = hospital.issue("other", "other.hospital")
    store = Store(tmp_path / "store")
    for changed in ({"tls_key": other[1]}, {"tls_client_ca": own[1]}, {"tls_certificate": str(tmp_path / "absent")}):
        given = {"tls_certificate": own[0], "tls_key": own[1]} | changed
        with pytest.raises(ConfigError, match="ECHOPLANE_GATEWAY_TLS"):
            scp.start(store, GatewaySettings(callers=("A",), dicom_port=0, **given))
    store.close()
    for half in ({"tls_certificate": own[0]}, {"tls_client_ca": own[0]}):
        with pytest.raises(ValueError, match="belong together"):
            GatewaySettings(callers=("A",), **half)
