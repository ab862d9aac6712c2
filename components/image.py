"""The image that every component runs in."""

import os

from echoplane.stages.stage import package_digest

# The tag is the source's digest: Kubeflow's cache is keyed by the image, and edited code must not meet an old result.
# "python" in the name tells kfp.local that steps find a Python there.
IMAGE = os.environ.get("ECHOPLANE_IMAGE") or f"echoplane-python:{package_digest()[:12]}"
