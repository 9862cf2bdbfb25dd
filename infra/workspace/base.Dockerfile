# A shell and the usual tools.
ARG AGENT=onmemos/workspace-agent
FROM ${AGENT} AS agent
FROM debian:trixie-20260918-slim@sha256:a99cfc517144bc59b1978475ec53b46ecabec7e43635402ee5b77cc54cd1b20a
RUN --mount=type=bind,source=setup.sh,target=/tmp/setup.sh sh /tmp/setup.sh
COPY --from=agent /opt/onmemos /opt/onmemos
ENV HOME=/workspace LANG=C.UTF-8 PORT=8080 \
    PATH=/workspace/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ARG VERSION=dev
LABEL org.opencontainers.image.title="OnMemOS base" \
      org.opencontainers.image.description="A shell and the usual tools" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      dev.onmemos.template="base"
WORKDIR /workspace
USER 1000:1000
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/opt/onmemos/bin/health"]
ENTRYPOINT ["/opt/onmemos/bin/agent"]
