#!/bin/bash
# Creates a database and a role each for MLflow and Keycloak. Neither role can open the other's database, and neither is
# a superuser. Runs automatically if PostgreSQL's volume is empty. Another run sets the passwords that are in the
# environment then.
set -euo pipefail

superuser=${POSTGRES_USER:-postgres}

# Passwords come from the environment and commands from standard input, because -c does not replace variables. So no
# process list shows a password.
sql() {
    psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 --username "$superuser" --dbname postgres
}

# set_password NAME PASSWORD
set_password() {
    NAME=$1 PASSWORD=$2 sql <<'SQL'
\getenv name NAME
\getenv password PASSWORD
ALTER ROLE :"name" PASSWORD :'password';
SQL
}

# make_database NAME PASSWORD: a database, owned by the role of the same name.
make_database() {
    NAME=$1 sql <<'SQL'
\getenv name NAME
SELECT format('CREATE ROLE %I LOGIN', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
    set_password "$1" "$2"
}

make_database mlflow "$MLFLOW_DB_PASSWORD"
make_database keycloak "$KEYCLOAK_DB_PASSWORD"
set_password "$superuser" "$POSTGRES_PASSWORD"
