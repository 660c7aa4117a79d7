# The gradwire server.
#
#   docker build --tag gradwire .
#   docker run --env GRADWIRE_TOKEN --publish 127.0.0.1:50051:50051 gradwire
#   docker run --env GRADWIRE_TOKEN --publish 127.0.0.1:50051:50051 --gpus all gradwire
#
# Ports: 50051 the RPCs; 50052 health checks, without TLS or token; 8080 the web page, if asked for
# by GRADWIRE_PAGE_ADDRESS=0.0.0.0:8080; 9464 metrics, by GRADWIRE_METRICS_ADDRESS=0.0.0.0:9464.
# State is in /var/lib/gradwire; nothing else is written but /tmp. docs/operations.md tells more.
#
# Callers show the token. Without one the server does not start, because a container listens to
# other hosts; on a trusted network, GRADWIRE_INSECURE=true lets it start.
# The command below says --plaintext, because the port is published on this machine only or a proxy
# in front of it has the certificate. Where neither is so, give the server its own instead:
#
#   docker run --volume ...:/tls:ro gradwire serve --address 0.0.0.0:50051 \
#     --tls-certificate-file /tls/server.pem --tls-key-file /tls/server.key
#
# torch is the build that pip finds by itself: on Linux one with CUDA, which also runs without a
# GPU. TORCH_INDEX_URL chooses another one, such as the much smaller one without CUDA: it names one
# of the package indexes that "Get started" on PyTorch's site lists, for CPU or a version of CUDA.
#
#   docker build --build-arg TORCH_INDEX_URL=... --tag gradwire:cpu .
ARG BASE_IMAGE=python:3.11-slim-bookworm

# What is to be installed, apart from the rest of the project's file, so that a change of the rest
# leaves the layers of the dependencies as they are.
FROM ${BASE_IMAGE} AS requirements
COPY pyproject.toml ./
RUN python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
requirements = project['dependencies'] + project['optional-dependencies']['server'] \
    + project['optional-dependencies']['s3'] + project['optional-dependencies']['otel']; \
print(*requirements, sep='\n', file=open('/requirements.txt', 'w'))"

# Everything but gradwire itself. What is large is installed where it stays and not copied.
FROM ${BASE_IMAGE} AS dependencies
# torch.compile writes C++ and compiles it against the headers of Python, which most base images
# with Python have.
RUN apt-get update -qq \
    && header="$(python -c "import sysconfig; print(sysconfig.get_path('include'))")/Python.h" \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
         g++ $(test -f "${header}" || echo libpython3-dev) >/dev/null \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
ARG TORCH_INDEX_URL=
COPY --from=requirements /requirements.txt /build/
COPY constraints.txt /build/
# The environment of the server has no pip of its own; one that is not kept installs into it.
RUN python -m venv /build/pip \
    && pip="/build/pip/bin/python -m pip --disable-pip-version-check --no-cache-dir" \
    && ${pip} install --quiet --constraint /build/constraints.txt --upgrade pip \
    && python -m venv --without-pip /opt/gradwire \
    && install="${pip} --python /opt/gradwire/bin/python install --root-user-action ignore \
         --quiet --no-compile --constraint /build/constraints.txt" \
    && if [ -n "${TORCH_INDEX_URL}" ]; then \
         ${install} --index-url "${TORCH_INDEX_URL}" torch; \
       fi \
    && ${install} --requirement /build/requirements.txt \
    # The tests of torch, and protoc: an eighth of torch's size.
    && cd /opt/gradwire/lib/python3*/site-packages \
    && rm -rf torch/test torch/bin/test_* torch/bin/*Test torch/bin/protoc* /build/pip \
    # Nothing is compiled later, on a file system that is read-only; here all cores do it. Some
    # packages ship files that are no Python of this version.
    && (python -m compileall -q -j 0 . >/dev/null || true)

# gradwire itself, apart from them.
FROM ${BASE_IMAGE} AS project
WORKDIR /build
COPY constraints.txt ./
RUN python -m venv pip \
    && pip/bin/python -m pip install --quiet --no-cache-dir --constraint constraints.txt --upgrade pip \
    && python -m venv --without-pip /opt/gradwire
COPY pyproject.toml LICENSE README.md ./
COPY client client
COPY server server
COPY benchmarks benchmarks
RUN pip/bin/python -m pip --python /opt/gradwire/bin/python install --quiet --no-cache-dir --no-deps \
    --root-user-action ignore --prefix /project --build-constraint constraints.txt .

FROM dependencies
# Platforms may choose a user id of their own; such a user is in group 0.
RUN useradd --no-create-home --no-log-init --uid 10001 --gid 0 --home-dir /var/lib/gradwire gradwire \
    && install --directory --owner gradwire --group root --mode 2770 /var/lib/gradwire \
    && rm -rf /build
COPY --from=project /project /opt/gradwire
# USER is what names a user whom the image does not know, in what torch.compile writes below /tmp.
ENV PATH=/opt/gradwire/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/gradwire \
    USER=gradwire \
    GRADWIRE_STORAGE=file:///var/lib/gradwire
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gradwire" \
      org.opencontainers.image.description="PyTorch training as a gRPC service" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001
WORKDIR /var/lib/gradwire
VOLUME /var/lib/gradwire
EXPOSE 50051 50052 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["gradwire", "health", "--address", "127.0.0.1:50052"]
ENTRYPOINT ["gradwire"]
CMD ["serve", "--address", "0.0.0.0:50051", "--health-address", "0.0.0.0:50052", \
     "--plaintext", "--log-format", "json"]
