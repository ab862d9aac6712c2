# echoplane-worker: every pipeline step, every node of a Ray cluster that trains, and the monitor. CUDA comes with torch's packages;
# a node needs NVIDIA's driver alone. GPU=none leaves CUDA out, for a site or a test without GPUs.
# Build from the checkout's root: `make images`, or docker build --file infra/images/worker.Dockerfile .
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS packages
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends binutils
RUN python -m venv /opt/venv \
 && python -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir uv==0.13.9
COPY requirements/worker.txt infra/images/without_cuda.py /build/
ARG GPU=nvidia
# triton: for torch.compile alone, which nothing here calls.
RUN case $GPU in \
      nvidia) without='^triton==' ;; \
      none) without='^(triton|cuda-\w+|nvidia-(?!cuda-runtime=|ml-py=).*)==' ;; \
      *) echo "GPU=$GPU: nvidia or none is expected" >&2; exit 2 ;; \
    esac \
 && grep -vP "$without" /build/worker.txt >/build/wanted.txt \
 && /opt/uv/bin/uv pip install --quiet --no-cache --no-deps --compile-bytecode --python /opt/venv/bin/python --require-hashes -r /build/wanted.txt \
 && if [ "$GPU" = none ]; then python /build/without_cuda.py /opt/venv/lib/python3.11/site-packages/torch/lib; fi \
 && find /opt/venv/lib -type d -name tests -prune -exec rm -rf {} + \
 && rm -rf /opt/venv/lib/python3.11/site-packages/pip /opt/venv/lib/python3.11/site-packages/torch/include

FROM ${PYTHON}
# wget: KubeRay's probes of a Ray node. The profile: some versions of KubeRay start Ray from a login shell.
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wget \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && echo 'export PATH=/opt/venv/bin:$PATH' >/etc/profile.d/venv.sh
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY echoplane ./echoplane
COPY components ./components
COPY pipelines ./pipelines
COPY serving ./serving
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp MLFLOW_DISABLE_TELEMETRY=true RAY_USAGE_STATS_ENABLED=0
RUN printf '#!/bin/sh\nexec python -m echoplane.cli "$@"\n' >/opt/venv/bin/echoplane && chmod 755 /opt/venv/bin/echoplane \
 && python -m compileall -q /app && python -c "import cv2, gdcm, kfp, mlflow, openvino, rapidocr_onnxruntime, ray, torch, torchvision"
USER 10001:10001
CMD ["echoplane", "--help"]
# Pipelines that are compiled in this image name it.
ARG IMAGE=
ENV ECHOPLANE_IMAGE=${IMAGE}
# Last, because every commit changes it.
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="echoplane-worker" \
      org.opencontainers.image.description="Pipeline steps and Ray nodes of echoplane. Research use, not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
