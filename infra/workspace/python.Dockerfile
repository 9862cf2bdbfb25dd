# Python with pip.
ARG AGENT=onmemos/workspace-agent
FROM ${AGENT} AS agent
FROM python:3.13.16-slim-trixie@sha256:bf44cdfcb76cd3b41e879bc058fc37ec5872002ccfde7fcb765e218cde0cd79c
RUN --mount=type=bind,source=setup.sh,target=/tmp/setup.sh sh /tmp/setup.sh git
COPY --from=agent /opt/onmemos /opt/onmemos
ENV HOME=/workspace LANG=C.UTF-8 PORT=8080 \
    PATH=/workspace/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ARG VERSION=dev
LABEL org.opencontainers.image.title="OnMemOS python" \
      org.opencontainers.image.description="Python with pip" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      dev.onmemos.template="python"
WORKDIR /workspace
USER 1000:1000
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/opt/onmemos/bin/health"]
ENTRYPOINT ["/opt/onmemos/bin/agent"]
