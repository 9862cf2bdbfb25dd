# The Go toolchain.
ARG AGENT=onmemos/workspace-agent
FROM ${AGENT} AS agent
FROM golang:1.27.0-trixie@sha256:ae28539d2ef595b9a2930dd7f031d9592376829dc0eae7cb869559f7d5812c3a AS go
FROM debian:trixie-20260918-slim@sha256:a99cfc517144bc59b1978475ec53b46ecabec7e43635402ee5b77cc54cd1b20a
RUN --mount=type=bind,source=setup.sh,target=/tmp/setup.sh sh /tmp/setup.sh git
COPY --from=agent /opt/onmemos /opt/onmemos
COPY --from=go /usr/local/go /usr/local/go
ENV HOME=/workspace LANG=C.UTF-8 PORT=8080 GOPATH=/workspace/go \
    PATH=/workspace/.local/bin:/workspace/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ARG VERSION=dev
LABEL org.opencontainers.image.title="OnMemOS go" \
      org.opencontainers.image.description="The Go toolchain" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      dev.onmemos.template="go"
WORKDIR /workspace
USER 1000:1000
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/opt/onmemos/bin/health"]
ENTRYPOINT ["/opt/onmemos/bin/agent"]
