"""Every metric of the gateway. Labels are bounded: configured sites and peers, kinds of work, and listed reasons."""

from prometheus_client import Counter, Gauge

RECEIVED = Counter(
    "echoplane_gateway_instances",
    "Instances received: outcome is stored, repeated (stored before), out-of-resources, invalid, conflict, "
    "transfer-syntax or failed.",
    ["site", "outcome"],
)
RECEIVED_BYTES = Counter("echoplane_gateway_received_bytes", "Bytes of the instances acknowledged.", ["site"])
REJECTED = Counter("echoplane_gateway_rejected_associations", "Associations rejected, such as for an unknown AE title.")
STUDIES = Counter("echoplane_gateway_studies", "Studies complete after their quiet time.")
ANSWERS = Counter(
    "echoplane_gateway_answers", "Parts of studies: outcome is answered, refused or failed.", ["site", "outcome"]
)
SENT = Counter(
    "echoplane_gateway_results", "Attempts to send a result: outcome is sent or failed.", ["peer", "outcome"]
)
WORK = Gauge("echoplane_gateway_work", "Items of the queue: state is waiting or stuck.", ["kind", "state"])
OLDEST_S = Gauge("echoplane_gateway_oldest_waiting_seconds", "Age of the oldest item that waits.")
STORE_BYTES = Gauge("echoplane_gateway_store_bytes", "Bytes of the instances in the store.")
FREE_BYTES = Gauge("echoplane_gateway_free_bytes", "Free bytes of the store's disk.")


def received(site: str, outcome: str, size_bytes: int) -> None:
    RECEIVED.labels(site, outcome).inc()
    RECEIVED_BYTES.labels(site).inc(size_bytes)
