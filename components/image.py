"""Image that every component runs in: ECHOPLANE_IMAGE, or the worker image as `make images` names it."""

import os
import subprocess
from pathlib import Path

from echoplane.stages.stage import package_digest

BUILD = Path(__file__).resolve().parents[1] / "infra" / "images" / "build"


def _tag() -> str:
    """Returns the digest of the image's content, computed by the script that builds it; outside a checkout, of the
    package alone."""
    if not BUILD.exists():
        return package_digest()[:12]
    return subprocess.run(["bash", str(BUILD), "--tag"], check=True, capture_output=True, text=True).stdout.strip()


# The tag changes with the source: Kubeflow keys its cache by this string, and a node keeps an image once pulled.
IMAGE = os.environ.get("ECHOPLANE_IMAGE") or f"{os.environ.get('IMAGE_REGISTRY', '')}echoplane-worker:{_tag()}"
