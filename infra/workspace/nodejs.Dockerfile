# Node.js with npm.
ARG AGENT=onmemos/workspace-agent
FROM ${AGENT} AS agent
FROM node:24.21.0-trixie-slim@sha256:173f125896c3b47ddf056734c7ea789d04595a6a08769a8f78e0df642781fb66
RUN --mount=type=bind,source=setup.sh,target=/tmp/setup.sh sh /tmp/setup.sh git
COPY --from=agent /opt/onmemos /opt/onmemos
# npm install --global goes where the session's user may write.
ENV HOME=/workspace LANG=C.UTF-8 PORT=8080 NPM_CONFIG_PREFIX=/workspace/.local \
    PATH=/workspace/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ARG VERSION=dev
LABEL org.opencontainers.image.title="OnMemOS nodejs" \
      org.opencontainers.image.description="Node.js with npm" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      dev.onmemos.template="nodejs"
WORKDIR /workspace
USER 1000:1000
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/opt/onmemos/bin/health"]
ENTRYPOINT ["/opt/onmemos/bin/agent"]
