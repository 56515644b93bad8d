#!/bin/sh
# Refuses settings with which the stack would start but be open or broken. Says all that is wrong, and never a value.
set -eu

problems=0
problem() {
    echo "check-env: $*" >&2
    problems=$((problems + 1))
}

# strong NAME LENGTH: long enough, of harmless characters, and nothing that a person made up in a hurry.
strong() {
    value=$(printenv "$1" || true)
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
    if [ "$different" -lt 6 ]; then
        problem "$1 has only $different different characters. ./generate-env.sh makes one if it is empty"
    fi
}

strong SECRET_KEY 32
for name in OIDC_CLIENT_SECRET POSTGRES_PASSWORD MLFLOW_DB_PASSWORD KEYCLOAK_DB_PASSWORD KEYCLOAK_ADMIN_PASSWORD \
    REDIS_PASSWORD MINIO_ROOT_PASSWORD; do
    strong "$name" 12
done

case " ${OIDC_SCOPE:-} " in
*" openid "*) ;;
*) problem "OIDC_SCOPE must have openid among its scopes, as in OIDC_SCOPE=\"openid profile email\"" ;;
esac
if [ -n "${OIDC_SCOPES:-}" ]; then
    problem "OIDC_SCOPES is not read: the name is OIDC_SCOPE"
fi

# The development realm has users whose password stands in its file.
case ${BIND_ADDRESS:-} in
127.* | ::1 | \[::1\] | localhost) local=yes ;;
*) local=no ;;
esac
case ${MLFLOW_PUBLIC_URL:-} in
http://localhost | http://localhost:* | http://127.0.0.1 | http://127.0.0.1:*) ;;
*) local=no ;;
esac
case $local:${KEYCLOAK_START_ARGUMENTS:-} in
no:*--import-realm*)
    problem "others can reach this stack, but Keycloak would import the development realm, whose users have a known" \
        "password. Set KEYCLOAK_START_ARGUMENTS= (empty) and see docs/production.md"
    ;;
esac

if [ "$problems" -gt 0 ]; then
    echo "check-env: nothing is started until .env is right" >&2
    exit 1
fi
echo "check-env: the settings are in order"
