"""What the last `make test-cluster` of this checkout measured, onto the page: `python -m benchmarks.cluster`."""

import json
import sys
from typing import Any

from benchmarks import machine, results

FIGURES = results.CHECKOUT / "build" / "cluster" / "figures.json"
WHILE = "requests while "
TEXT = (
    "The chart with MinIO and MLflow, two serving pods, the pipeline `echo-view` as Jobs and its training on a Ray "
    "head and two workers, on one machine beside Kubernetes itself and the client that asks. Kubernetes and the base "
    "image were there, and layers that an earlier build had left were taken. A connection that is refused is tried "
    "again and counted: the node itself refuses some at a NodePort. KubeRay's operator and Kubeflow's driver are "
    "doubles (tests/cluster)."
)


def main() -> int:
    if not FIGURES.exists():
        sys.exit(f"{FIGURES.relative_to(results.CHECKOUT)} is missing: run `make test-cluster` first.")
    results.record(
        "cluster",
        "On Kubernetes",
        rows(json.loads(FIGURES.read_text())),
        machine.conditions("make test-cluster", None),
        TEXT,
    )
    results.write_page(["cluster"])
    print(f"{results.PAGE} holds what the cluster tests measured")
    return 0


def rows(measured: dict[str, float]) -> list[dict[str, Any]]:
    """The page's lines of one run's figures; KeyError where the run did not come that far."""
    lines = [
        ("from no cluster to the last test, minutes", f"{measured['everything_s'] / 60:.1f}", "at most 25"),
        ("of these: images built and loaded, minutes", f"{measured['images_built_and_loaded_s'] / 60:.1f}", ""),
        ("`helm install` to the first answer, s", f"{measured['install_to_first_answer_s']}", "at most 300"),
        ("memory of all pods at its most, GiB", f"{measured['memory_of_all_pods_gib']}", "at most 12"),
    ]
    for name in (key.removeprefix(WHILE) for key in measured if key.startswith(WHILE)):
        total, failed = measured[f"{WHILE}{name}"], measured[f"failed while {name}"]
        refused = measured[f"connections refused while {name}"]
        figure = f"requests while {name}: failed, of; connections refused, and tried again"
        lines.append((figure, f"{failed}, {total}; {refused}", "0 failed"))
    for lost in ("worker", "head"):
        again = measured[f"training steps made again after a lost {lost}"]
        lines.append((f"training steps made again after a lost Ray {lost}, of 48", f"{again}", "at most 8"))
    return [{"figure": figure, "value": value, "expected": expected} for figure, value, expected in lines]


if __name__ == "__main__":
    sys.exit(main())
