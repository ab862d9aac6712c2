# echoplane-mlflow: the tracking server and model registry, with drivers for object stores and PostgreSQL.
# Build from the checkout's root: `make images`, or docker build --file infra/images/mlflow.Dockerfile .
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS packages
COPY requirements/mlflow.txt /build/
RUN python -m venv /opt/venv \
 && python -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir uv==0.13.9 \
 && /opt/uv/bin/uv pip install --quiet --no-cache --compile-bytecode --python /opt/venv/bin/python --no-deps --require-hashes -r /build/mlflow.txt \
 && find /opt/venv/lib -type d -name tests -prune -exec rm -rf {} + \
 && rm -rf /opt/venv/lib/python3.11/site-packages/pip /opt/venv/lib/python3.11/site-packages/setuptools

FROM ${PYTHON}
COPY --from=packages /opt/venv /opt/venv
WORKDIR /tmp
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
USER 10001:10001
EXPOSE 5000
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1", "--serve-artifacts"]
# Last, because every commit changes it.
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="echoplane-mlflow" \
      org.opencontainers.image.description="The MLflow server of echoplane." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
