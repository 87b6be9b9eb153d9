# The image of bmsd: control and gateway, without a compiler, a pip or a secret. How it is run: docs/container.md.
#   docker build -t bmsd .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
RUN python3 -m venv --without-pip /opt/bmsd/venv && python3 -m venv /opt/tools
# What changes seldom comes first: the packages, each with its hash.
COPY requirements.txt requirements-dev.txt ./
RUN awk '/^[a-z]/ {wanted = /^setuptools==/} wanted' requirements-dev.txt >tools.txt \
    && /opt/tools/bin/pip install --no-cache-dir --require-hashes -r tools.txt
RUN /opt/tools/bin/pip --python /opt/bmsd/venv/bin/python install --no-cache-dir --require-hashes -r requirements.txt \
    && find /opt/bmsd/venv/lib -path '*/numpy/*' -type d -name tests -prune -exec rm -r {} +
COPY pyproject.toml README.md ./
COPY dbc dbc
COPY bmsd bmsd
RUN /opt/tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation -w dist . \
    && /opt/tools/bin/pip --python /opt/bmsd/venv/bin/python install --no-cache-dir --no-deps dist/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="bmsd" \
      org.opencontainers.image.description="Battery management daemon of an industrial battery rack, with its gateway" \
      org.opencontainers.image.documentation="docs/container.md"
# A number, so that an orchestrator can see that it is not root; a new volume takes over the owner of the folder.
RUN groupadd --gid 990 bmsd && useradd --uid 990 --gid 990 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin bmsd \
    && install -d -o bmsd -g bmsd -m 0750 /var/lib/bmsd /run/bmsd /run/bmsd-bus
COPY --from=build /opt/bmsd/venv /opt/bmsd/venv
ENV PATH=/opt/bmsd/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 990:990
VOLUME /var/lib/bmsd
# Modbus TCP; REST and metrics. Nothing listens beyond the container unless the configuration says so.
EXPOSE 1502 8080
# Control leaves within 10 s: it waits for the current before it opens. Stop with more patience than that.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=2 \
    CMD ["bmsd", "health", "-c", "/etc/bmsd/bmsd.toml"]
ENTRYPOINT ["bmsd"]
CMD ["up", "-c", "/etc/bmsd/bmsd.toml"]
