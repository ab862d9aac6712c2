"""`helm test`: the registry answers, and every task of the service has a model. Says what is missing."""

import json
import os
import sys
import urllib.error
import urllib.request


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:  # noqa: S310 (the chart's own addresses)
        return bytes(response.read())


try:
    get(os.environ["MLFLOW"] + "/health")
    print("MLflow answers")
    slots = json.loads(get(os.environ["SERVING"] + "/v1/models"))["models"]
except urllib.error.URLError as error:
    sys.exit(f"no answer: {error.reason}. Serving has an address only once a pod has a model; see its log.")
for slot in slots:
    print(slot["task"], "version", slot["model"]["version"] if slot["ready"] else f"none: {slot['problem']}")
sys.exit(not all(slot["ready"] for slot in slots))
