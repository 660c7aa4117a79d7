# The gradwire server.
#
#   docker build --tag gradwire .
#   docker run --env GRADWIRE_TOKEN --publish 127.0.0.1:50051:50051 gradwire
#   docker run --env GRADWIRE_TOKEN --publish 127.0.0.1:50051:50051 --gpus all gradwire
#
# Callers show the token. Without one the server does not start, because a container listens to
# other hosts; on a trusted network `gradwire serve --address 0.0.0.0:50051 --insecure` does.
# The command below says --plaintext, because the port is published on this machine only or a proxy
# in front of it has the certificate. Where neither is so, give the server its own instead:
#
#   docker run --volume ...:/tls:ro gradwire serve --address 0.0.0.0:50051 \
#     --tls-certificate-file /tls/server.pem --tls-key-file /tls/server.key
#
# torch is the build that pip finds by itself: on Linux one with CUDA, which also runs without a
# GPU. For a much smaller image without CUDA, name the package index of PyTorch's CPU builds (see
# "Get started" on PyTorch's site):
#
#   docker build --build-arg TORCH_INDEX_URL=... --tag gradwire:cpu .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG TORCH_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PATH=/opt/gradwire/bin:${PATH}
WORKDIR /build
RUN python -m venv /opt/gradwire

# The dependencies are a layer of their own, which a change of the sources leaves as it is.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
requirements = project['dependencies'] + project['optional-dependencies']['server'] \
    + project['optional-dependencies']['s3']; \
print(*requirements, sep='\n', file=open('requirements.txt', 'w'))" \
    && pip install --quiet --constraint constraints.txt --upgrade pip \
    && if [ -n "${TORCH_INDEX_URL}" ]; then \
         pip install --quiet --constraint constraints.txt --index-url "${TORCH_INDEX_URL}" torch; \
       fi \
    && pip install --quiet --constraint constraints.txt --requirement requirements.txt

COPY LICENSE README.md ./
COPY client client
COPY server server
RUN pip install --quiet --no-deps --build-constraint constraints.txt .

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="gradwire" \
      org.opencontainers.image.description="PyTorch training as a gRPC service" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --create-home --home-dir /var/lib/gradwire --uid 10001 gradwire
COPY --from=build /opt/gradwire /opt/gradwire
ENV PATH=/opt/gradwire/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    GRADWIRE_STORAGE=file:///var/lib/gradwire
USER gradwire
WORKDIR /var/lib/gradwire
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["gradwire", "health", "--address", "127.0.0.1:50051"]
ENTRYPOINT ["gradwire"]
CMD ["serve", "--address", "0.0.0.0:50051", "--plaintext", "--log-format", "json"]
