#!/bin/sh
# Refuses settings with which the stack would start but be insecure or broken. Reports all problems, but never a value.
set -eu

problems=0
problem() {
    echo "check-env: $*" >&2
    problems=$((problems + 1))
}

# strong NAME LENGTH DIFFERENT [VALUE]: the value is long enough, has only safe characters, has that many different
# ones, and is not an obvious invention.
strong() {
    value=${4-$(printenv "$1" || true)}
    case $value in
    *[!A-Za-z0-9._~+/=-]*)
        problem "$1 may have letters, digits and -._~+/= only"
        return
        ;;
    esac
    if [ "${#value}" -lt "$2" ]; then
        problem "$1 is too short: ${#value} characters of at least $2. ./generate-env.sh makes one if it is empty"
        return
    fi
    case $(printf %s "$value" | tr '[:upper:]' '[:lower:]') in
    *change*me* | *password* | *example* | *secret* | *your_* | *your-* | *123456789* | *qwerty*)
        problem "$1 is a placeholder or easy to guess. ./generate-env.sh makes one if it is empty"
        return
        ;;
    esac
    different=$(printf %s "$value" | fold -w 1 | sort -u | wc -l)
    if [ "$different" -lt "$3" ]; then
        problem "$1 has only $different different characters of at least $3. ./generate-env.sh makes one if it is empty"
    fi
}

# While a key is being replaced, the value is both keys, separated by a comma. The gate and MLflow ask for as many
# different characters.
for name in SECRET_KEY ASSERTION_KEYS; do
    keys=$(printenv "$name" || true)
    while
        strong "$name" 32 10 "${keys%%,*}"
        [ "$keys" != "${keys#*,}" ]
    do keys=${keys#*,}; done
done
for name in OIDC_CLIENT_SECRET POSTGRES_PASSWORD MLFLOW_DB_PASSWORD KEYCLOAK_DB_PASSWORD KEYCLOAK_ADMIN_PASSWORD \
    REDIS_PASSWORD MINIO_ROOT_PASSWORD; do
    strong "$name" 12 6
done

# MLflow knows ASSERTION_KEYS, and must not learn another secret by it.
assertion_keys=$(printenv ASSERTION_KEYS || true)
for name in SECRET_KEY OIDC_CLIENT_SECRET POSTGRES_PASSWORD MLFLOW_DB_PASSWORD KEYCLOAK_DB_PASSWORD \
    KEYCLOAK_ADMIN_PASSWORD REDIS_PASSWORD MINIO_ROOT_PASSWORD; do
    rest=$(printenv "$name" || true),
    while [ -n "$rest" ]; do
        value=${rest%%,*}
        rest=${rest#*,}
        # What is shorter has been refused above.
        [ "${#value}" -ge 12 ] || continue
        case $assertion_keys in
        *"$value"*)
            problem "ASSERTION_KEYS contains the value of $name. Each must have a value of its own: ./generate-env.sh makes" \
                "one if it is empty"
            break
            ;;
        esac
    done
done

case ${MLFLOW_DEFAULT_PERMISSION:-READ} in
READ | USE | EDIT | MANAGE | NO_PERMISSIONS) ;;
*) problem "MLFLOW_DEFAULT_PERMISSION must be READ, USE, EDIT, MANAGE or NO_PERMISSIONS" ;;
esac

case " ${OIDC_SCOPE:-} " in
*" openid "*) ;;
*) problem "OIDC_SCOPE must have openid among its scopes, as in OIDC_SCOPE=\"openid profile email\"" ;;
esac
if [ -n "${OIDC_SCOPES:-}" ]; then
    problem "OIDC_SCOPES is not read: the name is OIDC_SCOPE"
fi

# here ADDRESS…: whether all of them can be reached only from this machine.
here() {
    for address in "$@"; do
        case $address in
        127.* | ::1 | \[::1\] | localhost) ;;
        http://localhost | http://localhost:* | http://127.0.0.1 | http://127.0.0.1:*) ;;
        *) return 1 ;;
        esac
    done
}

# The development realm has users whose password is in its file.
case ${KEYCLOAK_START_ARGUMENTS:-} in
*--import-realm*)
    here "${BIND_ADDRESS:-}" "${KEYCLOAK_BIND_ADDRESS:-}" "${MLFLOW_PUBLIC_URL:-}" "${KEYCLOAK_PUBLIC_URL:-}" ||
        problem "others can reach this stack, but Keycloak would import the development realm, whose users have a known" \
            "password. Set KEYCLOAK_START_ARGUMENTS= (empty) and see docs/production.md"
    ;;
esac

# encrypted NAME URL ADDRESS: other machines reach an https address by TLS, unless a proxy in front provides it.
encrypted() {
    case $2 in https://*) ;; *) return 0 ;; esac
    here "$3" ||
        problem "$1 is https, but its port is open to others and speaks no TLS. docker-compose.tls.yml gives it TLS: it must" \
            "be in COMPOSE_FILE, and -f on a command line takes the place of that. If something in front ends TLS, set" \
            "TLS_IN_FRONT=yes. See docs/production.md"
}
# TLS_FILE comes from docker-compose.tls.yml.
if [ -z "${TLS_FILE:-}" ] && [ "${TLS_IN_FRONT:-}" != yes ]; then
    encrypted MLFLOW_PUBLIC_URL "${MLFLOW_PUBLIC_URL:-}" "${BIND_ADDRESS:-}"
    encrypted KEYCLOAK_PUBLIC_URL "${KEYCLOAK_PUBLIC_URL:-}" "${KEYCLOAK_BIND_ADDRESS:-}"
fi

# origin URL: its origin as browsers write it: in lower case, without the scheme's default port.
origin() {
    scheme=$(printf %s "${1%%://*}" | tr '[:upper:]' '[:lower:]')
    authority=${1#*://}
    authority=$(printf %s "${authority%%/*}" | tr '[:upper:]' '[:lower:]')
    case $scheme in
    https) authority=${authority%:443} ;;
    http) authority=${authority%:80} ;;
    esac
    echo "$scheme://$authority"
}

# spelled NAME URL [PATH]: the spelling is that of browsers and the gate, with which Keycloak compares it character by
# character. Without PATH the URL must have no path.
spelled() {
    case $2 in
    http://?* | https://?* | [Hh][Tt][Tt][Pp]://?* | [Hh][Tt][Tt][Pp][Ss]://?*) ;;
    *)
        problem "$1 must be an address that begins with https:// or http://"
        return
        ;;
    esac
    path=${2#*://}
    path=${path#"${path%%/*}"}
    while [ "$path" != "${path%/}" ]; do path=${path%/}; done
    if [ $# -lt 3 ] && [ -n "$path" ]; then
        problem "$1 must have no path: MLflow is at the root of its host"
    elif [ "$2" != "$(origin "$2")$path" ]; then
        problem "$1 is not spelled as browsers spell it, and Keycloak would refuse every sign-in: set $1=$(origin "$2")$path"
    fi
}
spelled MLFLOW_PUBLIC_URL "${MLFLOW_PUBLIC_URL:-}"
spelled KEYCLOAK_PUBLIC_URL "${KEYCLOAK_PUBLIC_URL:-}" path
spelled MLFLOW_BACKCHANNEL_URL "${MLFLOW_BACKCHANNEL_URL:-http://envoy:5000}" path

# An entry may have wildcards, as in *.example.com.
host=$(origin "$MLFLOW_PUBLIC_URL")
host=${host#*://}
allowed=no
set -f
for pattern in $(printf %s "${MLFLOW_ALLOWED_HOSTS:-}" | tr , ' '); do
    # shellcheck disable=SC2254 # it is a pattern
    case $host in $pattern) allowed=yes ;; esac
done
set +f
if [ "$allowed" = no ]; then
    problem "MLFLOW_ALLOWED_HOSTS does not name $host, the host of MLFLOW_PUBLIC_URL, and MLflow refuses every other one:" \
        "set MLFLOW_ALLOWED_HOSTS=$host"
fi

# Settings from an .env for an earlier version of this stack, or for cargo xtask up.
case ${S3_ENDPOINT_URL:-}:,$(printf %s "${COMPOSE_PROFILES:-}" | tr -d ' '), in
http://minio:9000:*,minio,* | http://minio:9000:*,\*,*) ;;
http://minio:9000:*)
    problem "artifacts would go to MinIO, which COMPOSE_PROFILES does not start: put COMPOSE_PROFILES=minio into .env" \
        "(./generate-env.sh does it), or name another place with S3_ENDPOINT_URL"
    ;;
esac
case ${MLFLOW_IMAGE:-} in
*mlflow-oidc*)
    problem "MLFLOW_IMAGE names an image that asks for a sign-in itself, behind the gate: take the line out, and one is" \
        "built; or name one as docs/compose.md builds it"
    ;;
ghcr.io/mlflow/mlflow | ghcr.io/mlflow/mlflow[:@]*)
    problem "MLFLOW_IMAGE names MLflow's own image, which would not know who its users are: take the line out, and one is" \
        "built; or name one as docs/compose.md builds it"
    ;;
esac

# Containers run as other users than the one who cloned the repository.
closed=$(find /mounted ! -type l ! -perm -004 2>/dev/null | sed 's|^/mounted/||' | tr '\n' ' ')
if [ -n "$closed" ]; then
    problem "the containers can't read ${closed}because others may not: ./generate-env.sh mends it, or chmod go+rX $closed"
fi

if [ "$problems" -gt 0 ]; then
    echo "check-env: nothing is started until .env is right" >&2
    exit 1
fi
echo "check-env: the settings are in order"
