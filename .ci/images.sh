#!/usr/bin/env bash
# Local replacements for three official images, for machines that cannot reach an image registry: python:3.12-slim and
# rust:…-slim, from which the builds start, and prom/prometheus. A build with them tests the Dockerfiles, not the
# official images. Needs a Docker engine with debian:trixie-slim, Go, Python and the Rust toolchain of
# rust-toolchain.toml.
set -euo pipefail

# CPython 3.12 from python-build-standalone, inside a Go module.
python_module=github.com/kluctl/go-embed-python@v0.0.0-3.12.3-20240415-1
python=python:3.12-slim
rust=rust:$(sed -n 's/^channel = "\(.*\)"$/\1/p' "${BASH_SOURCE%/*}/../rust-toolchain.toml")-slim
prometheus=prom/prometheus:v3.5.0
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

python_image() {
    local module
    module=$(cd "$context" && go mod download -json "$python_module" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
    python3 - "$module/python/internal/data/linux-amd64" "$context/python" <<'PYTHON'
import gzip, json, pathlib, shutil, sys

source, target = map(pathlib.Path, sys.argv[1:])
for entry in json.loads((source / "files.json").read_text())["files"]:
    path = target / entry["name"]
    path.parent.mkdir(parents=True, exist_ok=True)
    if "symlink" in entry:
        path.symlink_to(entry["symlink"])
    elif (source / entry["name"]).is_dir():
        path.mkdir(exist_ok=True)
    else:
        packed = source / (entry["name"] + ".gz")
        with gzip.open(packed) if entry.get("compressed") else open(source / entry["name"], "rb") as content:
            with open(path, "wb") as file:
                shutil.copyfileobj(content, file)
        path.chmod(entry["perm"] & 0o777)
PYTHON
    # This Python has no pip, but a wheel of pip can install itself.
    python3 -m pip download --quiet --no-deps --dest "$context" pip
    docker build -q -t "$python" -f - "$context" <<'DOCKERFILE'
FROM debian:trixie-slim
# It does not look for certificate authorities where Debian has them.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
COPY python /usr/local
COPY pip-*.whl /tmp/
RUN ln -sf python3.12 /usr/local/bin/python3 && ln -sf python3 /usr/local/bin/python && \
    PYTHONPATH=$(echo /tmp/pip-*.whl) python3 -m pip install --quiet --root-user-action=ignore /tmp/pip-*.whl && rm /tmp/pip-*.whl
CMD ["python3"]
DOCKERFILE
}

rust_image() {
    local toolchain
    # The Dockerfile adds it too, but cannot download it in this environment.
    if command -v rustup >/dev/null; then rustup -q target add wasm32-wasip1; fi
    toolchain=$(rustc --print sysroot)
    test -d "$toolchain/lib/rustlib/wasm32-wasip1"
    mkdir -p "$context/toolchain" "$context/bin"
    # The documentation is more than half of the toolchain.
    tar -C "$toolchain" --exclude=./share/doc -cf - . | tar -C "$context/toolchain" -xf -
    cat >"$context/bin/rustup" <<'SCRIPT'
#!/bin/sh
# Only reports whether the target is installed, because this image has no other.
[ "$1 $2" = "target add" ] && exec test -d "$RUST_SYSROOT/lib/rustlib/$3"
echo "this rustup only knows: target add" >&2
exit 1
SCRIPT
    chmod 755 "$context/bin/rustup"
    docker build -q -t "$rust" -f - "$context" <<'DOCKERFILE'
FROM debian:trixie-slim
RUN apt-get -qq -o Acquire::Retries=3 update && apt-get -qq -o Acquire::Retries=3 install -y --no-install-recommends gcc libc6-dev >/dev/null && rm -rf /var/lib/apt/lists/*
COPY toolchain /usr/local/toolchain
COPY bin /usr/local/bin
ENV RUST_SYSROOT=/usr/local/toolchain CARGO_HOME=/usr/local/cargo PATH=/usr/local/toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
DOCKERFILE
}

prometheus_image() {
    # Debian's version is older. The health check needs wget, which is part of BusyBox in the official image.
    docker build -q -t "$prometheus" -f - "$context" <<'DOCKERFILE'
FROM debian:trixie-slim
RUN apt-get -qq -o Acquire::Retries=3 update && apt-get -qq -o Acquire::Retries=3 install -y --no-install-recommends prometheus wget >/dev/null && rm -rf /var/lib/apt/lists/* && \
    mkdir -p /prometheus && chown 65534:65534 /prometheus
USER 65534
VOLUME /prometheus
WORKDIR /prometheus
EXPOSE 9090
ENTRYPOINT ["/usr/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
DOCKERFILE
}

for name in python rust prometheus; do
    docker image inspect "${!name}" >/dev/null 2>&1 && continue
    "${name}_image" >/dev/null
    echo "$name: ${!name}"
done
