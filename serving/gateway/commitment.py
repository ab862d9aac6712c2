"""Storage commitment (PS3.4 annex J): says which instances are stored for good, so that a sender may delete its own.

The request is queued durably before it is accepted. The answer goes to the peer that has the caller's AE title, in an
association of its own.
"""

import json
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from echoplane.files import write_atomically
from serving.gateway import queue
from serving.gateway.instances import is_uid
from serving.gateway.peers import association
from serving.gateway.settings import GatewaySettings, Peer
from serving.gateway.store import Store, new_id, sync_folder
from serving.gateway.work_errors import GiveUp, TryAgain

MAX_INSTANCES = 10_000
PROCESSING_FAILURE, INVALID_ARGUMENT, NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0110, 0x0115, 0x0112, 0x0119
ALL_STORED, SOME_FAILED = 1, 2
"""Event types of the answer (PS3.4 table J.3-2)."""


def request(store: Store, settings: GatewaySettings, event: evt.Event) -> tuple[int, None]:
    """Queues a request (N-ACTION); returns the status of the response."""
    caller = event.assoc.requestor.ae_title
    if not any(peer.ae_title == caller for peer in settings.peers):
        return PROCESSING_FAILURE, None  # nobody to answer: the caller is not in ECHOPLANE_GATEWAY_PEERS
    action = event.action_information
    items = [(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)) for item in _items(action)]
    transaction = str(action.get("TransactionUID") or "")
    if not is_uid(transaction) or not 0 < len(items) <= MAX_INSTANCES:
        return INVALID_ARGUMENT, None
    wanted = {"site": settings.ae_titles[event.assoc.acceptor.ae_title], "transaction": transaction, "items": items}
    path = store.results / f"{new_id()}{new_id()}"
    write_atomically(path, json.dumps(wanted).encode(), 0o600)
    sync_folder(store.results)
    queue.add_commitment(store, caller, path)
    return 0x0000, None


def _items(action: Dataset) -> list[Dataset]:
    return list(action.get("ReferencedSOPSequence") or ())


def answer(store: Store, path: Path, peer: Peer, settings: GatewaySettings) -> None:
    """Sends the answer to a request (N-EVENT-REPORT). Raises TryAgain or GiveUp unless the peer took it."""
    wanted = json.loads(path.read_bytes())
    report = _report(store, wanted)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    with association(peer, settings, build_context(StorageCommitmentPushModel), [role]) as opened:
        if not opened.accepted_contexts:
            raise GiveUp("the peer does not accept storage commitment")
        event_type = SOME_FAILED if "FailedSOPSequence" in report else ALL_STORED
        status, _ = opened.send_n_event_report(
            report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    if status.get("Status") != 0:
        raise TryAgain("the peer did not take the answer to its storage commitment request")


def _report(store: Store, wanted: dict[str, Any]) -> Dataset:
    """Returns which of the instances are stored, and keeps these for good. It is decided when the answer is sent."""
    report = Dataset()
    report.TransactionUID = wanted["transaction"]
    stored, failed = list[Dataset](), list[Dataset]()
    for sop_class, sop_uid in wanted["items"]:
        found = store.commit_to(wanted["site"], sop_uid)
        reason = NO_SUCH_INSTANCE if found is None else CLASS_CONFLICT if found != sop_class else 0
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
        if reason:
            item.FailureReason = reason
        (failed if reason else stored).append(item)
    if stored:
        report.ReferencedSOPSequence = stored
    if failed:
        report.FailedSOPSequence = failed
    return report
