"""Sends result objects to a peer, by C-STORE or by STOW-RS."""

import functools
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
from pynetdicom import AE

from serving.gateway.service import ACCESS, RETRIED, bearer
from serving.gateway.settings import Peer
from serving.gateway.work_errors import GiveUp, TryAgain

CHUNK_BYTES = 1 << 20


def send(path: Path, peer: Peer, calling_ae_title: str, timeout_s: float) -> None:
    """Sends one object. Raises TryAgain or GiveUp with the reason if the peer has not confirmed that it stored it."""
    if peer.stow_url:
        _stow(path, peer, timeout_s)
    else:
        _c_store(path, peer, calling_ae_title, timeout_s)


def _c_store(path: Path, peer: Peer, calling_ae_title: str, timeout_s: float) -> None:
    dataset = pydicom.dcmread(path)
    entity = AE(ae_title=calling_ae_title)
    entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = timeout_s
    entity.connection_timeout = min(timeout_s, 10)
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate(peer.host, peer.port, ae_title=peer.ae_title)
    if association.is_rejected:
        raise TryAgain("the peer rejected the association; check the AE titles")
    if not association.is_established:
        raise TryAgain("the peer cannot be reached, or did not answer")
    try:
        if not association.accepted_contexts:
            raise GiveUp("the peer does not accept this SOP class")
        status = association.send_c_store(dataset).get("Status")
    finally:
        association.release()
    _check(status)


def _check(status: int | None) -> None:
    """Accepts success and warnings (PS3.4 table B.2-1); anything else is an error."""
    if status is None:
        raise TryAgain("the peer ended the association without a response")
    if status == 0 or 0xB000 <= status <= 0xBFFF:
        return
    reason = f"the peer answered C-STORE with status 0x{status:04X}"
    if 0xA900 <= status <= 0xA9FF or 0xC000 <= status <= 0xCFFF or status == 0x0122:
        raise GiveUp(reason)
    raise TryAgain(reason)


def _stow(path: Path, peer: Peer, timeout_s: float) -> None:
    boundary = secrets.token_hex(16)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"',
        "Accept": "application/dicom+json",
        **bearer(peer.token_file),
    }
    try:
        response = httpx.post(
            f"{peer.stow_url.rstrip('/')}/studies", content=_part(path, boundary), headers=headers, timeout=timeout_s
        )
    except httpx.TransportError as error:
        raise TryAgain(f"the peer cannot be reached ({type(error).__name__})") from None
    if response.status_code in (200, 202):
        return
    reason = f"the peer answered STOW with status {response.status_code}"
    if response.status_code in RETRIED:
        raise TryAgain(reason)
    raise GiveUp("the peer refuses the gateway's token" if response.status_code in ACCESS else reason)


def _part(path: Path, boundary: str) -> Iterator[bytes]:
    yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    with path.open("rb") as file:
        yield from iter(functools.partial(file.read, CHUNK_BYTES), b"")
    yield f"\r\n--{boundary}--\r\n".encode()
