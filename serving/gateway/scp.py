"""DICOM network service: C-ECHO, C-STORE and storage commitment.

An instance is acknowledged once the store has it durably.
"""

import functools
import logging
from typing import Any, cast

import pynetdicom
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, dimse_messages, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]  # made at import
from pynetdicom.transport import ThreadedAssociationServer

from serving.api.failures import log_failure
from serving.gateway import commitment, metrics, tls
from serving.gateway.filing import receive
from serving.gateway.instances import TRANSFER_SYNTAXES, Header, Refused, invalid
from serving.gateway.receiving import IncomingFile
from serving.gateway.settings import MIB, GatewaySettings
from serving.gateway.store import Store

log = logging.getLogger("echoplane.gateway")

PDU_BYTES = 128 * 1024
"""Largest PDU that a sender may use. pynetdicom's default of 16 KiB costs throughput."""
NETWORK_TIMEOUT_S = 60


def start(store: Store, settings: GatewaySettings) -> ThreadedAssociationServer:
    """Starts to listen, on threads of its own. Raises OSError if the port is taken, ConfigError if a file of TLS is
    wrong."""
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # its messages quote data sets and AE titles
    pynetdicom._config.STORE_RECV_CHUNKED_DATASET = True
    # Incoming data sets go to the store's disk, with a limit on their size; pynetdicom has no setting for either.
    new_file = functools.partial(IncomingFile, store.incoming, settings.max_instance_mib * MIB)
    dimse_messages.NamedTemporaryFile = lambda **_: new_file()  # type: ignore[assignment]
    entity = AE(ae_title=next(iter(settings.ae_titles)))
    entity.maximum_associations = settings.max_associations
    entity.maximum_pdu_size = PDU_BYTES
    entity.network_timeout = entity.dimse_timeout = NETWORK_TIMEOUT_S
    entity.require_called_aet = True
    entity.require_calling_aet = [] if settings.allow_any_caller else list(settings.callers)
    entity.add_supported_context(Verification)
    if settings.storage_commitment:
        entity.add_supported_context(StorageCommitmentPushModel)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax or UID(""), list(TRANSFER_SYNTAXES))
    server = entity.start_server(
        (settings.bind, settings.dicom_port),
        block=False,
        ssl_context=tls.server_context(settings),
        evt_handlers=_handlers(store, settings),
    )
    return cast(ThreadedAssociationServer, server)  # None is returned by a server that blocks


def _handlers(store: Store, settings: GatewaySettings) -> list[Any]:
    """Returns pairs of an event and its handler."""
    return [
        (evt.EVT_REQUESTED, functools.partial(_answer_under_called_title, settings)),
        (evt.EVT_REJECTED, lambda _: metrics.REJECTED.inc()),
        (evt.EVT_C_ECHO, lambda _: 0x0000),
        (evt.EVT_N_ACTION, functools.partial(_request_commitment, store, settings)),
        (evt.EVT_C_STORE, functools.partial(_store, store, settings)),
    ]


def _answer_under_called_title(settings: GatewaySettings, event: evt.Event) -> None:
    """Takes the called AE title as our own if it is one of ours; pynetdicom knows one title and rejects others."""
    requested = event.assoc.requestor.primitive
    called = requested.called_ae_title if requested else ""
    if called in settings.ae_titles:
        event.assoc.acceptor.ae_title = called


def _store(store: Store, settings: GatewaySettings, event: evt.Event) -> int | Dataset:
    """Stores one instance. Returns the status of the response: success only for what is durably stored."""
    site = settings.ae_titles[event.assoc.acceptor.ae_title]
    request = cast(C_STORE, event.request)
    incoming = cast(IncomingFile, request._dataset_file)
    try:
        receive(store, site, incoming, functools.partial(_check_uid, str(request.AffectedSOPInstanceUID)))
    except Refused as refused:
        return _response(refused)
    except Exception as error:
        log_failure("storing an instance", error)
        metrics.received(site, "failed", 0)
        return 0x0110
    return 0x0000


def _request_commitment(store: Store, settings: GatewaySettings, event: evt.Event) -> tuple[int, None]:
    try:
        return commitment.request(store, settings, event)
    except Exception as error:
        log_failure("a storage commitment request", error)
        return commitment.PROCESSING_FAILURE, None


def _check_uid(sop_uid: str, header: Header) -> None:
    if header.sop_uid != sop_uid:
        raise invalid("the data set has another SOP Instance UID than the request")


def _response(refused: Refused) -> Dataset:
    response = Dataset()
    response.Status, response.ErrorComment = refused.status, refused.comment
    return response
