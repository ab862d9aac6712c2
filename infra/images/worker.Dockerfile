# echoplane-worker: every pipeline step, and every node of a Ray cluster that trains. CUDA comes with torch's packages;
# a node needs NVIDIA's driver alone.
# Build from the checkout's root: `make images`, or docker build --file infra/images/worker.Dockerfile .
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS packages
COPY requirements/worker.txt /build/
RUN python -m venv /opt/venv \
 && python -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir uv==0.13.9 \
 && /opt/uv/bin/uv pip install --quiet --no-cache --no-deps --python /opt/venv/bin/python -r /build/worker.txt \
 && rm -rf /opt/venv/lib/python3.11/site-packages/pip

FROM ${PYTHON}
# wget: KubeRay's probes of a Ray node. libgl1, libglib2.0-0, libxcb1: the OpenCV that the training packages bring.
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wget libgl1 libglib2.0-0 libxcb1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY echoplane ./echoplane
COPY components ./components
COPY pipelines ./pipelines
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp MLFLOW_DISABLE_TELEMETRY=true RAY_USAGE_STATS_ENABLED=0
RUN printf '#!/bin/sh\nexec python -m echoplane.cli "$@"\n' >/opt/venv/bin/echoplane && chmod 755 /opt/venv/bin/echoplane \
 && python -m compileall -q /app && python -c "import cv2, kfp, mlflow, ray, torch"
USER 10001:10001
CMD ["echoplane", "--help"]
# Last, because every commit changes it.
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="echoplane-worker" \
      org.opencontainers.image.description="Pipeline steps and Ray nodes of echoplane. Research use, not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
