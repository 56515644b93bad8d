"""Writes ``mlflow-oidc-auth-*.sql``: the tables of the real mlflow-oidc-auth, filled by its own store.

Not a test. It needs the package itself, in an environment of its own (11.0.2 needs Python 3.11 or newer):

    python3.12 -m venv other && other/bin/pip install mlflow-oidc-auth==11.0.2
    other/bin/python tests/dump_mlflow_oidc_auth.py > tests/mlflow-oidc-auth-11.0.2.sql

What is different at each run is replaced: hashes by a text that is plainly none, times by one time.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

VERSION = version("mlflow-oidc-auth")
SCRIPT = "tests/dump_mlflow_oidc_auth.py"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        path = Path(folder) / "users.db"
        os.environ["OIDC_USERS_DB_URI"] = f"sqlite:///{path}"
        fill()
        print(f"-- The tables of mlflow-oidc-auth {VERSION} on SQLite, filled by its own store:")
        print(f"--   pip install mlflow-oidc-auth=={VERSION}")
        print(f"--   python {SCRIPT} > tests/mlflow-oidc-auth-{VERSION}.sql")
        print("-- Nobody in here is real. There are no passwords and no hashes of any.")
        database = sqlite3.connect(path)
        if "password_hash" in {column[1] for column in database.execute("PRAGMA table_info(users)")}:
            database.execute("UPDATE users SET password_hash = 'not-a-hash'")
        for line in database.iterdump():
            print(re.sub(r"'20\d\d-\d\d-\d\d \d\d:\d\d:\d\d[.\d]*'", "'2026-01-01 00:00:00'", line))


def fill() -> None:
    from mlflow_oidc_auth.store import store

    new = int(VERSION.partition(".")[0]) >= 6
    users: list[tuple[str, dict[str, Any]]] = [
        ("ann@example.com", {}),
        ("ben@example.com", {}),
        ("cleo", {}),
        ("dora", {}),
        ("root@example.com", {"is_admin": True}),
        ("trainer", {"is_service_account": True}),
        ("gone", {}),
    ]
    for name, more in users:
        if new:
            store.create_user(name, f"The user {name}", **more)
        else:
            store.create_user(name, "", f"The user {name}", **more)
    store.populate_groups(["/research", "guests", "mlflow_admins", "empty"])
    store.set_user_groups("ben@example.com", ["/research"])
    store.set_user_groups("cleo", ["/research", "guests"])
    store.set_user_groups("dora", ["guests"])
    store.set_user_groups("root@example.com", ["mlflow_admins"])

    # Experiments 1 and 2 exist where the tests load this, 77 does not.
    store.create_experiment_permission("1", "ann@example.com", "MANAGE")
    store.create_experiment_permission("1", "cleo", "READ")
    store.create_experiment_permission("1", "trainer", "EDIT")
    store.create_experiment_permission("2", "dora", "NO_PERMISSIONS")
    store.create_experiment_permission("77", "ann@example.com", "MANAGE")
    store.create_group_experiment_permission("/research", "1", "EDIT")
    store.create_group_experiment_permission("guests", "2", "READ")
    store.create_group_experiment_permission("mlflow_admins", "2", "MANAGE")

    # `churn` is a model and `greeting` a prompt; a user's permission does not say which it is.
    store.create_registered_model_permission("churn", "ann@example.com", "MANAGE")
    store.create_registered_model_permission("greeting", "ann@example.com", "EDIT")
    store.create_registered_model_permission("lost", "cleo", "READ")
    store.create_group_model_permission("/research", "churn", "READ")
    store.create_group_prompt_permission("/research", "greeting", "READ")

    store.create_experiment_regex_permission("tea", 1, "EDIT", "dora")
    store.create_group_experiment_regex_permission("guests", ".*one$", 5, "READ")
    store.create_registered_model_regex_permission("^chu", 1, "READ", "dora")
    store.create_prompt_regex_permission("greet.*", 1, "EDIT", "cleo")
    store.create_prompt_regex_permission(".*", 9, "NO_PERMISSIONS", "cleo")
    store.create_group_registered_model_regex_permission("guests", "nothing-like-this", 1, "MANAGE")
    if new:
        fill_new(store)


def fill_new(store: Any) -> None:
    """What 5.6.1 had no tables for."""
    store.create_scorer_permission("1", "tone/formal", "ann@example.com", "MANAGE")
    store.create_group_scorer_permission("/research", "1", "tone/formal", "READ")
    store.create_scorer_regex_permission("tone.*", 1, "READ", "dora")
    store.create_gateway_secret_permission("vault", "ann@example.com", "MANAGE")
    store.create_gateway_model_definition_permission("small", "ann@example.com", "USE")
    store.create_gateway_endpoint_permission("chat", "ann@example.com", "USE")
    store.create_group_gateway_endpoint_permission("/research", "chat", "USE")
    store.create_gateway_endpoint_regex_permission("ch.*", 1, "USE", "dora")
    store.create_mcp_server_permission("io.example/tools", "ann@example.com", "EDIT")
    store.create_group_mcp_server_permission("/research", "io.example/tools", "READ")
    store.create_workspace_permission("team", "ann@example.com", "MANAGE")
    store.create_workspace_permission("team", "dora", "READ")
    store.create_workspace_group_permission("team", "/research", "USE")
    store.create_workspace_regex_permission("te.*", 1, "USE", "cleo")
    with store.ManagedSessionMaker() as session:
        from mlflow_oidc_auth.db.models import SqlUser

        session.query(SqlUser).filter(SqlUser.username == "gone").update({"active": False})


if __name__ == "__main__":
    sys.exit(main())
