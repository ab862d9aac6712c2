# echoplane-serving: the HTTP service and the DICOM gateway. Neither torch nor kfp.
# Build from the checkout's root: `make images`, or docker build --file infra/images/serving.Dockerfile .
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS packages
# serving; triton adds the client of a Triton server, edge the client of The Update Framework.
ARG REQUIREMENTS=serving
COPY requirements/${REQUIREMENTS}.txt /build/requirements.txt
RUN python -m venv /opt/venv \
 && python -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir uv==0.13.9 \
 && /opt/uv/bin/uv pip install --quiet --no-cache --compile-bytecode --python /opt/venv/bin/python --no-deps --require-hashes -r /build/requirements.txt \
 && find /opt/venv/lib -type d -name tests -prune -exec rm -rf {} + \
 && rm -rf /opt/venv/lib/python3.11/site-packages/pip /opt/venv/lib/python3.11/site-packages/setuptools

FROM ${PYTHON}
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY echoplane ./echoplane
COPY serving ./serving
# The root file system is read only: what is written goes to /tmp, and bytecode is made here.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp BENTOML_HOME=/tmp/bentoml BENTOML_DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
RUN python -m compileall -q /app && python -c "import bentoml, cv2, fastapi, gdcm, highdicom, mlflow, onnxruntime, openvino, pynetdicom, simplejpeg"
USER 10001:10001
EXPOSE 3000
CMD ["bentoml", "serve", "serving.service:EchoplaneService", "--host", "0.0.0.0", "--port", "3000"]
# Last, because every commit changes it.
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="echoplane-serving" \
      org.opencontainers.image.description="Answers cardiac imaging studies over HTTP. Research use, not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
