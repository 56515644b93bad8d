#!/bin/sh
# Adds the secrets that are missing in .env, and leaves everything else in it unchanged. Creates .env from .env.example
# if it does not exist, and makes the files that are mounted into containers readable. Needs only a POSIX system and
# /dev/urandom.
set -eu
cd "$(dirname "$0")"

secrets="SECRET_KEY OIDC_CLIENT_SECRET POSTGRES_PASSWORD MLFLOW_DB_PASSWORD KEYCLOAK_DB_PASSWORD
KEYCLOAK_ADMIN_PASSWORD REDIS_PASSWORD MINIO_ROOT_PASSWORD ASSERTION_KEYS"

# 32 random bytes as hexadecimal digits, which need no quoting in a shell, a URL, a form or a configuration file.
random() {
    od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'
}

# Containers run as other users, who cannot read a clone with a umask such as 077.
for path in compose envoy init-db.sh keycloak mlflow monitoring; do
    [ -e "$path" ] || continue
    if [ -n "$(find "$path" ! -perm -004)" ]; then
        chmod -R go+rX "$path"
        echo "made readable for the containers: $path"
    fi
done

# From here on, only the owner can read what is written.
umask 077
if [ ! -e .env ]; then
    cp .env.example .env
    echo "made .env from .env.example"
fi
chmod 600 .env

# lacks NAME: whether .env contains no value for it. As in Compose, the last line counts.
lacks() {
    case $(sed -n "s/^[[:space:]]*\(export \)\{0,1\}${1}[[:space:]]*=[[:space:]]*//p" .env | tail -n 1) in
    "" | '""' | "''" | "#"*) ;;
    *) return 1 ;;
    esac
}

# An existing database has created its roles with POSTGRES_PASSWORD. Other passwords in .env would lock MLflow and
# Keycloak out.
for name in MLFLOW_DB_PASSWORD KEYCLOAK_DB_PASSWORD; do
    if lacks "$name" && ! lacks POSTGRES_PASSWORD; then
        secrets=$(printf %s "$secrets" | sed "s/$name//")
        echo "left out: $name, whose role has POSTGRES_PASSWORD; docs/production.md says how it gets one of its own"
    fi
done

new=$(mktemp ./.env.XXXXXX)
trap 'rm -f "$new"' EXIT
made=
for name in $secrets; do
    lacks "$name" || continue
    if grep -q "^$name=" .env; then
        sed "s/^$name=.*/$name=$(random)/" .env >"$new"
    else
        { awk 1 .env && echo "$name=$(random)"; } >"$new"
    fi
    cp "$new" .env
    made="$made $name"
done

# An .env for another purpose does not say where artifacts are stored.
if ! grep -Eq '^[[:space:]]*(export )?(COMPOSE_PROFILES|S3_ENDPOINT_URL)[[:space:]]*=' .env; then
    { awk 1 .env && echo "COMPOSE_PROFILES=minio"; } >"$new"
    cp "$new" .env
    made="$made COMPOSE_PROFILES"
fi

if [ -n "$made" ]; then
    echo "made in .env:$made"
else
    echo ".env has all secrets already; nothing was changed"
fi
