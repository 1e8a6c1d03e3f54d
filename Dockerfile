# Carrack's own image: carrackd in a container.
#   carrack build -t carrack .
#   carrack run -d --privileged --name inner -v inner:/var/lib/carrack carrack
#   carrack exec inner carrack run --rm hello-world
# --build-arg BASE=… takes another Debian 12; its apt and pip settings are used as they are.
ARG BASE=debian:12
FROM ${BASE}
ARG PIP_CERT=
COPY pyproject.toml uv.lock README.md /src/
COPY scripts/install /src/scripts/
COPY src /src/src
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      ca-certificates libnftables1 libseccomp2 python3 python3-venv tini >/dev/null \
 && /src/scripts/install --no-start --docker-socket=yes --as-docker \
 && rm -rf /src /var/lib/apt/lists/*
# containers' layers cannot lie on this image's own layers: overlay does not stack that deep
VOLUME /var/lib/carrack
EXPOSE 2376
STOPSIGNAL SIGTERM
ENTRYPOINT ["carrackd"]
