"""`helm test`: the registry and the gateway answer, and every task of the service has a model. Says what is missing."""

import json
import os
import sys
import urllib.error
import urllib.request


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:  # noqa: S310 (the chart's own addresses)
        return bytes(response.read())


def echo(host: str) -> None:
    """C-ECHO to the gateway. It is sent no instance, which it would report to the archive."""
    from pynetdicom import AE
    from pynetdicom.sop_class import Verification

    entity = AE(ae_title=os.environ["GATEWAY_CALLING"])
    entity.add_requested_context(Verification)
    port = int(os.environ["GATEWAY_PORT"])
    association = entity.associate(host, port, ae_title=os.environ["GATEWAY_CALLED"])
    status = association.send_c_echo() if association.is_established else None
    if not status or status.Status != 0:
        sys.exit("no answer to C-ECHO: see the gateway's log.")
    association.release()
    print("the gateway answers")


try:
    get(os.environ["MLFLOW"] + "/health")
    print("MLflow answers")
    slots = json.loads(get(os.environ["SERVING"] + "/v1/models"))["models"]
except urllib.error.URLError as error:
    sys.exit(f"no answer: {error.reason}. Serving has an address only once a pod has a model; see its log.")
if "GATEWAY" in os.environ:
    echo(os.environ["GATEWAY"])
for slot in slots:
    print(slot["task"], "version", slot["model"]["version"] if slot["ready"] else f"none: {slot['problem']}")
sys.exit(not all(slot["ready"] for slot in slots))
