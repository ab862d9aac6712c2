"""Sends result objects to a peer, by C-STORE or by STOW-RS."""

import contextlib
import functools
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pydicom
from pynetdicom import AE, Association, build_context
from pynetdicom.presentation import PresentationContext

from serving.gateway import tls
from serving.gateway.service import ACCESS, RETRIED, bearer
from serving.gateway.settings import GatewaySettings, Peer
from serving.gateway.work_errors import GiveUp, TryAgain

CHUNK_BYTES = 1 << 20


def send(path: Path, peer: Peer, settings: GatewaySettings) -> None:
    """Sends one object. Raises TryAgain or GiveUp with the reason if the peer has not confirmed that it stored it."""
    if peer.stow_url:
        _stow(path, peer, settings.request_timeout_s)
    else:
        _c_store(path, peer, settings)


def _c_store(path: Path, peer: Peer, settings: GatewaySettings) -> None:
    dataset = pydicom.dcmread(path)
    context = build_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    with association(peer, settings, context) as opened:
        if not opened.accepted_contexts:
            raise GiveUp("the peer does not accept this SOP class")
        status = opened.send_c_store(dataset).get("Status")
    _check(status)


@contextlib.contextmanager
def association(
    peer: Peer, settings: GatewaySettings, context: PresentationContext, roles: Sequence[Any] = ()
) -> Iterator[Association]:
    """Yields an association with a peer, and releases it. Raises TryAgain or GiveUp if none is established."""
    timeout_s = settings.request_timeout_s
    entity = AE(ae_title=next(iter(settings.ae_titles)))
    entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = timeout_s
    entity.connection_timeout = min(timeout_s, 10)
    arguments = tls.peer_arguments(peer, settings)
    opened = entity.associate(
        peer.host, peer.port, [context], peer.ae_title, ext_neg=list(roles) or None, tls_args=arguments
    )
    if opened.is_rejected:
        raise TryAgain("the peer rejected the association; check the AE titles")
    if not opened.is_established:
        also = ", or one side does not accept the other's certificate" if arguments else ""
        raise TryAgain(f"the peer cannot be reached, or did not answer{also}")
    try:
        yield opened
    finally:
        opened.release()


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
