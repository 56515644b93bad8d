#!/bin/bash
# Configures Keycloak's realm `mlflow` for the gate: the realm, its groups, the clients with their mappers, and test
# users unless told otherwise. Reports every change. A second run changes nothing.
#
#   ./configure-keycloak.sh                in the compose stack
#   ./configure-keycloak.sh --production   the same without test users and without the password grant
#   ./configure-keycloak.sh --development  with both, also where others can reach MLflow or Keycloak
#   ./configure-keycloak.sh --check        change nothing; ends with 1 if something would be changed
#
# Without --production or --development, the mode is --production if a public address is not on this machine.
#
# For a Keycloak elsewhere, with its kcadm.sh (part of Keycloak's download) on this machine:
#   KCADM=/opt/keycloak/bin/kcadm.sh KEYCLOAK_URL=https://login.example.com KC_BOOTSTRAP_ADMIN_PASSWORD=… \
#   MLFLOW_CLIENT_SECRET=… MLFLOW_PUBLIC_URL=https://mlflow.example.com ./configure-keycloak.sh --production
#
# On the host, this script copies itself into the Keycloak container, which has Bash and kcadm.sh but neither curl nor
# jq. Therefore it uses nothing else.
set -euo pipefail

kcadm=${KCADM:-/opt/keycloak/bin/kcadm.sh}
if [[ ! -x $kcadm ]]; then
    missing=''
    if [[ -n ${KCADM:-} ]]; then
        missing="KCADM is $KCADM, and there is no program that can be run."
    elif ! command -v docker >/dev/null; then
        missing="There is no docker here to reach the Keycloak container with."
    elif ! docker compose version >/dev/null 2>&1; then
        # docker itself would print its usage, without saying what is missing.
        missing="docker has no Compose plugin. Debian and Ubuntu have it as docker-compose-v2 or docker-compose-plugin."
    fi
    [[ -z $missing ]] || {
        echo "$missing" >&2
        echo "For a Keycloak that does not run in the compose stack, set KCADM to the kcadm.sh of a Keycloak download." >&2
        exit 1
    }
    cd "$(dirname "${BASH_SOURCE[0]}")"
    exec docker compose exec -T keycloak bash -s -- "$@" <"${BASH_SOURCE[0]##*/}"
fi

mode='' check=''
for argument in "$@"; do
    case $argument in
    --production | --development)
        [[ -z $mode || $mode == "$argument" ]] || {
            echo "--production and --development exclude each other" >&2
            exit 2
        }
        mode=$argument
        ;;
    --check) check=yes ;;
    *)
        echo "unknown option $argument; there are --production, --development and --check" >&2
        exit 2
        ;;
    esac
done

server=${KEYCLOAK_URL:-http://localhost:8080}
admin=${KC_BOOTSTRAP_ADMIN_USERNAME:-admin}
public_url=${MLFLOW_PUBLIC_URL:-http://localhost:5000}
backchannel_url=${MLFLOW_BACKCHANNEL_URL:-$public_url}
while [[ $backchannel_url == */ ]]; do backchannel_url=${backchannel_url%/}; done
# Spelled as browsers and the gate do, because Keycloak compares character by character.
public_url=${public_url,,}
while [[ $public_url == */ ]]; do public_url=${public_url%/}; done
case $public_url in https://*) public_url=${public_url%:443} ;; *) public_url=${public_url%:80} ;; esac
realm=mlflow client=mlflow cli=mlflow-cli

# The test users have a well-known password. A forgotten option must not create them where others can sign in.
if [[ -z $mode ]]; then
    mode=--development
    for address in "$public_url" "$server" "${KC_HOSTNAME:-$server}"; do
        [[ $address =~ ^(https?://)?(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?(/.*)?$ ]] || {
            echo "$address is not this machine's own: taken as --production. (--development makes test users all the same.)"
            mode=--production
            break
        }
    done
fi
test_users=yes password_grant=true
[[ $mode == --development ]] || test_users='' password_grant=false
: "${KC_BOOTSTRAP_ADMIN_PASSWORD:?is the password of Keycloak\'s user $admin}"

# Only this user may read the files that are written there.
umask 077
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
changes=0
# kcadm.sh starts a Java VM each time, about twenty times in total. These options halve its time. Other versions of Java
# ignore them.
export KC_OPTS="${KC_OPTS:-} -XX:+IgnoreUnrecognizedVMOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
    -XX:+AutoCreateSharedArchive -XX:SharedArchiveFile=$folder/classes.jsa"

# kc ARGUMENTS…: runs kcadm.sh, with a session file that only this user can read and that is removed at the end. Its
# standard error is shown only if it fails. Its standard input is closed, because this script itself may come from
# standard input.
kc() {
    "$kcadm" "$@" --config "$folder/session" </dev/null 2>"$folder/said" && return
    cat "$folder/said" >&2
    return 1
}

# changed WHAT…: counts a change and reports it.
changed() {
    changes=$((changes + 1))
    echo "  ${check:+would be }$*"
}

# ids PATH QUERY…: the internal ids of the results, one per line.
ids() {
    local path=$1
    shift
    local query=() word
    for word in "$@"; do query+=(-q "$word"); done
    kc get "$path" -r "$realm" "${query[@]}" --fields id --format csv --noquotes
}

# field JSON NAME: the value of a member, which kcadm.sh prints on one line. For several members its CSV is not usable:
# absent ones are left out, so positions shift. It also can't select attributes with dots in their names.
field() {
    local line
    while IFS= read -r line; do
        if [[ $line =~ ^\ *\"$2\"\ :\ (.*[^,]),?$ ]]; then
            echo "${BASH_REMATCH[1]}"
            return
        fi
    done <<<"$1"
}

# secret_file: the file for kcadm.sh's --file option with the client secret, which must not appear in a process list.
secret_file() {
    local value=${MLFLOW_CLIENT_SECRET//\\/\\\\}
    printf '{"secret": "%s"}\n' "${value//\"/\\\"}" >"$folder/secret.json"
    echo "$folder/secret.json"
}

# differences JSON SETTING…: compares the settings name=value with JSON. Stores those that differ in `different`, as
# options for kcadm.sh, and reports them. A value that begins with [ is a list; true, false and digits are not quoted.
differences() {
    local json=$1 setting name value wanted found key
    shift
    different=()
    for setting in "$@"; do
        name=${setting%%=*} value=${setting#*=} wanted=$value
        case $value in true | false | '['*) ;; *) [[ $value =~ ^[0-9]+$ ]] || wanted="\"$value\"" ;; esac
        # Attributes are always strings.
        [[ $name != attributes.* ]] || wanted="\"$value\""
        key=${name#attributes.}
        found=$(field "$json" "${key//./\\.}")
        if [[ ${found//[[:space:]]/} != "${wanted//[[:space:]]/}" ]]; then
            if [[ $name == secret ]]; then
                different+=(--file "$(secret_file)" --merge)
                changed "changed: the client's secret"
                continue
            fi
            [[ $name != attributes.* ]] || name="attributes.\"$key\""
            different+=(-s "$name=$value")
            changed "changed: $name from ${found:-nothing} to $value"
        fi
    done
}

echo "Keycloak at $server, realm $realm"
KC_CLI_PASSWORD=$KC_BOOTSTRAP_ADMIN_PASSWORD kc config credentials --server "$server" --realm master --user "$admin" >/dev/null || {
    echo "Keycloak does not let $admin in: is KEYCLOAK_ADMIN_PASSWORD the one that its database was made with?" >&2
    exit 1
}

echo "realm"
settings=(enabled=true sslRequired=external registrationAllowed=false revokeRefreshToken=true refreshTokenMaxReuse=0
    accessTokenLifespan=300 ssoSessionIdleTimeout=3600 ssoSessionMaxLifespan=43200)
[[ -n $test_users ]] || settings+=(bruteForceProtected=true)
if json=$(kc get "realms/$realm" 2>/dev/null); then
    differences "$json" "${settings[@]}"
    [[ -n $check || ${#different[@]} == 0 ]] || kc update "realms/$realm" "${different[@]}"
else
    [[ $(<"$folder/said") == *"not found"* ]] || {
        cat "$folder/said" >&2
        exit 1
    }
    changed "made: realm $realm"
    if [[ -n $check ]]; then
        echo "everything else would follow"
        exit 1
    fi
    options=()
    for setting in "${settings[@]}"; do options+=(-s "$setting"); done
    kc create realms -s "realm=$realm" -s displayName=MLflow "${options[@]}" -i >/dev/null
fi

echo "groups"
declare -A group_id
IFS=, read -ra groups <<<\
    "${OIDC_ADMIN_GROUP_NAME:-mlflow_admins},${OIDC_GROUP_NAME:-mlflow_users},${OIDC_VIEWER_GROUP_NAME:-mlflow_viewers}"
for group in "${groups[@]}"; do
    # Like the gate, trim spaces around a name but keep those inside.
    group=${group#"${group%%[![:space:]]*}"} group=${group%"${group##*[![:space:]]}"}
    group=${group#/}
    # The path of a sub-group must be created manually. This script creates only top-level groups.
    [[ -n $group && $group != */* && -z ${group_id[$group]:-} ]] || continue
    id=$(ids groups "search=$group" exact=true)
    if [[ -z $id ]]; then
        changed "made: group $group"
        [[ -n $check ]] || id=$(kc create groups -r "$realm" -s "name=$group" -i)
    fi
    group_id[$group]=${id:-none}
done

# client NAME DISPLAY SETTING…: a client. Sets `client_id` to its internal id, which is empty if it would be made.
client() {
    local name=$1 display=$2 setting key options=()
    shift 2
    client_id=$(ids clients "clientId=$name")
    if [[ -n $client_id ]]; then
        differences "$(kc get "clients/$client_id" -r "$realm")" "$@"
        [[ -n $check || ${#different[@]} == 0 ]] || kc update "clients/$client_id" -r "$realm" "${different[@]}"
        return
    fi
    changed "made: client $name"
    [[ -z $check ]] || return 0
    for setting in "$@"; do
        key=${setting%%=*}
        if [[ $key == secret ]]; then
            options+=(--file "$(secret_file)")
            continue
        fi
        [[ $key != attributes.* ]] || key="attributes.\"${key#attributes.}\""
        options+=(-s "$key=${setting#*=}")
    done
    client_id=$(kc create clients -r "$realm" -s "clientId=$name" -s "name=$display" -s protocol=openid-connect \
        -s 'defaultClientScopes=["basic","profile","email","acr"]' -s 'optionalClientScopes=["offline_access"]' \
        "${options[@]}" -i)
}

# mapper NAME TYPE SETTING…: a protocol mapper of the client `client_id`. It uses full paths, because without them
# /mlflow_admins and /any/mlflow_admins would look the same.
mapper() {
    local name=$1 type=$2 json setting options=() list id
    shift 2
    list=
    [[ -z $client_id ]] || list=$(kc get "clients/$client_id/protocol-mappers/models" -r "$realm" --fields id,name --format csv --noquotes)
    id=
    while IFS=, read -r found_id found_name; do
        [[ $found_name != "$name" ]] || id=$found_id
    done <<<"$list"
    if [[ -z $id ]]; then
        changed "made: mapper $name"
        for setting in "$@"; do options+=(-s "config.\"${setting%%=*}\"=${setting#*=}"); done
        [[ -n $check ]] || kc create "clients/$client_id/protocol-mappers/models" -r "$realm" -s "name=$name" \
            -s protocol=openid-connect -s "protocolMapper=$type" "${options[@]}" -i >/dev/null
        return
    fi
    json=$(kc get "clients/$client_id/protocol-mappers/models/$id" -r "$realm")
    for setting in "$@"; do
        local key=${setting%%=*}
        local found
        found=$(field "$json" "${key//./\\.}")
        if [[ $found != "\"${setting#*=}\"" ]]; then
            changed "changed: mapper $name, $key from ${found:-nothing} to ${setting#*=}"
            options+=(-s "config.\"$key\"=${setting#*=}")
        fi
    done
    [[ -n $check || ${#options[@]} == 0 ]] || kc update "clients/$client_id/protocol-mappers/models/$id" -r "$realm" "${options[@]}"
}

# mappers: those of a client whose access tokens the gate accepts.
mappers() {
    mapper groups oidc-group-membership-mapper claim.name=groups full.path=true id.token.claim=true \
        access.token.claim=true userinfo.token.claim=true
    mapper audience-mlflow oidc-audience-mapper "included.client.audience=$client" id.token.claim=false \
        access.token.claim=true
}

echo "client $cli"
# The client of `python -m oidc_gate_mlflow login`. At a loopback address, Keycloak allows every port (RFC 8252, 7.3).
client "$cli" "MLflow's command line" enabled=true publicClient=true standardFlowEnabled=true implicitFlowEnabled=false \
    directAccessGrantsEnabled=false serviceAccountsEnabled=false fullScopeAllowed=false \
    'redirectUris=["http://127.0.0.1/*"]' \
    attributes.pkce.code.challenge.method=S256 \
    attributes.oauth2.device.authorization.grant.enabled=true \
    attributes.access.token.header.type.rfc9068=true
mappers

echo "client $client"
settings=(enabled=true publicClient=false standardFlowEnabled=true implicitFlowEnabled=false
    "directAccessGrantsEnabled=$password_grant" serviceAccountsEnabled=true fullScopeAllowed=false
    "redirectUris=[\"$public_url/oauth2/callback\"]"
    attributes.pkce.code.challenge.method=S256
    "attributes.post.logout.redirect.uris=$public_url/*"
    "adminUrl=$backchannel_url/oauth2"
    "attributes.backchannel.logout.url=$backchannel_url/oauth2/backchannel-logout"
    attributes.backchannel.logout.session.required=true
    attributes.access.token.header.type.rfc9068=true)
# Without a secret, Keycloak generates one.
[[ -z ${MLFLOW_CLIENT_SECRET:-} ]] || settings+=("secret=$MLFLOW_CLIENT_SECRET")
client "$client" MLflow "${settings[@]}"
mappers

# enable NAME ID BOOLEAN: sets whether a user may sign in.
enable() {
    local now word=enabled
    now=$(kc get "users/$2" -r "$realm" --fields enabled --format csv)
    [[ $now != "$3" ]] || return 0
    [[ $3 == true ]] || word=disabled
    changed "changed: user $1 is $word"
    [[ -n $check ]] || kc update "users/$2" -r "$realm" -s "enabled=$3"
}

# user NAME FIRST LAST GROUP…: a test user. The password of an existing user is not changed.
user() {
    local name=$1 first=$2 last=$3 id group member
    shift 3
    id=$(ids users "username=$name" exact=true)
    if [[ -z $id ]]; then
        changed "made: user $name, password password123"
        [[ -z $check ]] || return 0
        id=$(kc create users -r "$realm" -s "username=$name" -s enabled=true -s emailVerified=true -s "email=$name@example.com" \
            -s "firstName=$first" -s "lastName=$last" \
            -s 'credentials=[{"type":"password","value":"password123","temporary":false}]' -i)
    else
        enable "$name" "$id" true
    fi
    for group in "$@"; do
        [[ -n ${group_id[$group]:-} ]] || continue
        member=$(kc get "users/$id/groups" -r "$realm" --fields name --format csv --noquotes)
        if [[ $'\n'$member$'\n' != *$'\n'"$group"$'\n'* ]]; then
            changed "changed: user $name joins $group"
            [[ -n $check ]] || kc update "users/$id/groups/${group_id[$group]}" -r "$realm" -s "realm=$realm" \
                -s "userId=$id" -s "groupId=${group_id[$group]}" -n
        fi
    done
}

if [[ -n $test_users ]]; then
    echo "test users"
    user mlflow_user Mona User mlflow_users
    user mlflow_admin Ada Admin mlflow_admins mlflow_users
    user outsider Otto Outsider
else
    echo "test users, whose password everybody knows"
    for name in mlflow_user mlflow_admin outsider; do
        # By name only: a user whose email address was changed may still have the known password.
        id=$(ids users "username=$name" exact=true)
        [[ -n $id ]] || continue
        email=$(kc get "users/$id" -r "$realm" --fields email --format csv)
        [[ $email == "\"$name@example.com\"" ]] ||
            echo "  warning: user $name has the e-mail address ${email:-of nobody}; if it is a person, give them another name"
        enable "$name" "$id" false
    done
fi

if [[ -n $check ]]; then
    echo "$changes changes would be made"
    [[ $changes == 0 ]] || exit 1
    exit 0
fi
if [[ $changes == 0 ]]; then echo "nothing was changed"; else echo "$changes changes"; fi
secret=$(kc get "clients/$client_id/client-secret" -r "$realm" --fields value --format csv --noquotes)
echo "OIDC_CLIENT_SECRET=$secret"
if [[ $secret != "${MLFLOW_CLIENT_SECRET:-}" ]]; then
    echo "Put that line into .env, then: docker compose up --wait"
fi
