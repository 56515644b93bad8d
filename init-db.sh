#!/bin/bash
# Runs once, when PostgreSQL's volume is empty: a database and a role each for MLflow and Keycloak. Neither can open the
# other's, and neither is a superuser.
set -euo pipefail

# make_database NAME PASSWORD: the role owns the database of its name.
make_database() {
    # Over standard input, because -c replaces no variables; and so the password is in no process list.
    NAME=$1 PASSWORD=$2 psql --no-psqlrc -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv name NAME
\getenv password PASSWORD
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

make_database mlflow "$MLFLOW_DB_PASSWORD"
make_database keycloak "$KEYCLOAK_DB_PASSWORD"
