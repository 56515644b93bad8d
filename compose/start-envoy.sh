#!/bin/sh
# Starts Envoy with envoy.yaml and the additions of Compose's override files: TLS (docker-compose.tls.yml) and metrics
# (docker-compose.monitoring.yml).
set -eu
cd "${1:-/etc/envoy}"

configuration=envoy.yaml
if [ -e tls-socket.yaml ]; then
    for file in tls/tls.crt tls/tls.key; do
        if [ ! -r "$file" ]; then
            echo "start-envoy: $file is missing or closed to Envoy, which runs as user and group 101; see docs/production.md" >&2
            exit 1
        fi
    done
    # A second listener, on another port and with TLS, that is otherwise `edge`: the anchors of envoy.yaml stand for its
    # members. The plain listener stays for Keycloak's logout messages, but its port is not published.
    if ! grep -q 'filters: &edge_filters$' envoy.yaml; then
        echo "start-envoy: envoy.yaml has no '&edge_filters': it is older than compose/start-envoy.sh. Build the image again" \
            "(docker compose build envoy), or use the files of the image's version; see docs/production.md" >&2
        exit 1
    fi
    configuration=${TMPDIR:-/tmp}/envoy-with-tls.yaml
    {
        cat envoy.yaml
        cat <<'LISTENER'

  - name: edge-tls
    address: {socket_address: {address: 0.0.0.0, port_value: 5443}}
    per_connection_buffer_limit_bytes: *edge_buffer
    listener_filters: *edge_listener_filters
    listener_filters_timeout: *edge_listener_filters_timeout
    filter_chains:
    - filters: *edge_filters
LISTENER
        sed 's/^/      /' tls-socket.yaml
    } >"$configuration"
fi

# Warns of a TLS connection whose server Envoy does not verify completely. Comments in the file are ignored.
written() { sed 's/^ *#.*//' "$configuration" | grep -c "$1" || true; }
contexts=$(written '\.UpstreamTlsContext')
if [ "$(written 'trusted_ca:\|validation_context_sds_secret_config:\|combined_validation_context:')" -lt "$contexts" ]; then
    echo "start-envoy: warning: a cluster in envoy.yaml speaks TLS without trusted_ca, so Envoy accepts any certificate" >&2
elif [ "$(written 'match_typed_subject_alt_names:\|auto_sni_san_validation:\|auto_san_validation:')" -lt "$contexts" ]; then
    echo "start-envoy: warning: a cluster in envoy.yaml speaks TLS without match_typed_subject_alt_names, so Envoy accepts a" \
        "certificate for any host; see docs/production.md" >&2
fi

# A replaced listener closes its connections at their next response, and after a minute at the latest.
set -- envoy -c "$configuration" --disable-hot-restart --concurrency "${ENVOY_WORKERS:-2}" --log-level warning \
    --component-log-level wasm:info --drain-time-s 60 --drain-strategy immediate
if [ -e metrics-listener.yaml ]; then
    set -- "$@" --config-yaml "$(cat metrics-listener.yaml)"
fi
exec "$@"
