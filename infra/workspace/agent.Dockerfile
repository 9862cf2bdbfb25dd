# The agent as a folder that any image with glibc 2.28 or newer copies in: COPY --from=… /opt/onmemos /opt/onmemos
# Its Python is python-build-standalone's, which may stand anywhere; uv knows each build by its checksum.
FROM python:3.13.16-slim-trixie@sha256:bf44cdfcb76cd3b41e879bc058fc37ec5872002ccfde7fcb765e218cde0cd79c AS assembly
ARG UV_VERSION=0.13.9
ARG PYTHON_VERSION=3.13.18
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore uv==${UV_VERSION} \
    && uv python install --no-cache --no-bin --install-dir /interpreters ${PYTHON_VERSION} \
    && mv /interpreters/cpython-${PYTHON_VERSION}-linux-*-gnu /interpreter
COPY . /source
RUN python /source/assemble.py /opt/onmemos --interpreter /interpreter

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="OnMemOS agent" \
      org.opencontainers.image.description="The workspace agent, its packages and its Python, in /opt/onmemos" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=assembly /opt/onmemos /opt/onmemos
ENTRYPOINT ["/opt/onmemos/bin/agent"]
