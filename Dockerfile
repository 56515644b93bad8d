# Three images from one build. `docker compose` builds the last one.
#
#   docker build --target filter -t oidc-gate .         the .wasm alone, for Istio and Envoy Gateway
#   docker build --target envoy  -t oidc-gate-envoy .   Envoy with the filter and envoy/envoy.yaml
#
# FILTER=prebuilt uses dist/oidc_gate.wasm from `cargo xtask build`, and needs no Rust image.
ARG RUST_IMAGE=rust:1.95.0-slim
ARG ENVOY_IMAGE=envoyproxy/envoy:v1.40.0
ARG FILTER=compiled

# The result runs on every processor, so it need not be compiled under emulation for another one.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS compiled
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY .cargo .cargo
COPY filter filter
COPY testkit testkit
COPY tests tests
COPY xtask xtask
# The image has the pinned toolchain; only its Wasm target may be missing.
RUN rustup target add wasm32-wasip1
# Like `cargo xtask build`: without the paths of this machine, so that every build has the same bytes.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    RUSTFLAGS="--remap-path-prefix=${CARGO_HOME}=cargo --remap-path-prefix=/src=oidc-gate" \
    cargo build --release --locked --target wasm32-wasip1 --package oidc-gate \
    && cp target/wasm32-wasip1/release/oidc_gate.wasm /oidc_gate.wasm

FROM scratch AS prebuilt
COPY dist/oidc_gate.wasm /oidc_gate.wasm

FROM ${FILTER} AS chosen

# The image for Istio and Envoy Gateway: one layer with plugin.wasm.
FROM scratch AS filter
COPY --from=chosen /oidc_gate.wasm /plugin.wasm

FROM ${ENVOY_IMAGE} AS envoy
COPY --from=chosen --chmod=0444 /oidc_gate.wasm /etc/envoy/oidc_gate.wasm
COPY --chmod=0444 envoy/envoy.yaml /etc/envoy/envoy.yaml
# The image's entry point would start as root and then change the user.
USER 101:101
EXPOSE 5000
CMD ["envoy", "-c", "/etc/envoy/envoy.yaml", "--disable-hot-restart", "--drain-time-s", "60", "--drain-strategy", "immediate"]
