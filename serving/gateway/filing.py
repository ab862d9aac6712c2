"""Files what was received, by C-STORE or STOW-RS: reads its header, stores it, counts the outcome."""

from collections.abc import Callable

from serving.gateway import metrics
from serving.gateway.instances import Header, Refused, read_header
from serving.gateway.receiving import IncomingFile
from serving.gateway.store import Store


def receive(store: Store, site: str, incoming: IncomingFile, check: Callable[[Header], None]) -> None:
    """Stores a received instance durably, unless it is stored already. `check` may raise Refused.

    Raises Refused, after counting it, if the instance is not stored.
    """
    try:
        incoming.sync()
        header = read_header(incoming.path)
        check(header)
        added = store.add(site, header, incoming)
    except Refused as refused:
        metrics.received(site, refused.kind, 0)
        raise
    metrics.received(site, "stored" if added else "repeated", incoming.size_bytes)
