"""``import-permissions``: the tables of the real mlflow-oidc-auth, and what its users may do in MLflow afterwards."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import API, API3, Server, admin, bearer, fill, operate, operate_here

pytestmark = pytest.mark.server

VERSIONS = ("5.6.1", "11.0.2")
NAMES = ("--map", "ann@example.com=ann", "--map", "ben@example.com=ben")


def load(version: str, path: Path, *statements: str) -> str:
    """The address of a database with the tables as that version left them."""
    database = sqlite3.connect(path)
    database.executescript((Path(__file__).parent / f"mlflow-oidc-auth-{version}.sql").read_text(encoding="utf-8"))
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()
    return f"sqlite:///{path}"


def call(server: Server, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return operate(server, "import-permissions", *words, **variables)


def call_here(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return operate_here(server, "import-permissions", *words)


def content(path: Path) -> bytes:
    return path.read_bytes()


def rows(server: Server) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(server.auth_database)
    found = database.execute(
        "SELECT roles.name, resource_type, resource_pattern, permission FROM role_permissions JOIN roles"
        " ON roles.id = role_id ORDER BY 1, 2, 3"
    ).fetchall()
    users = database.execute("SELECT username, is_admin FROM users ORDER BY 1").fetchall()
    database.close()
    return [*found, *users]


@pytest.fixture
def moved(version: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Server, dict[str, str]]]:
    """The MLflow to which the database of this version is moved, and what there is."""
    if version == VERSIONS[-1]:
        yield request.getfixturevalue("filled")
        return
    with Server(tmp_path, permission="NO_PERMISSIONS") as server:
        yield server, fill(server)


@pytest.mark.parametrize("version", [pytest.param(VERSIONS[0], marks=pytest.mark.whole), VERSIONS[1]])
def test_imported_permissions_decide(tmp_path: Path, version: str, moved: tuple[Server, dict[str, str]]) -> None:
    uri = load(version, tmp_path / "old.db")
    before = content(tmp_path / "old.db")
    server, ids = moved

    def rename(experiment: str, *who: Any, **more: Any) -> int:
        body = {
            "experiment_id": experiment,
            "new_name": server.get(f"{API}/experiments/get?experiment_id={experiment}", admin()).json()["experiment"][
                "name"
            ],
        }
        return server.post(f"{API}/experiments/update", bearer(*who, **more), json=body).status_code

    def read(path: str, *who: Any, **more: Any) -> int:
        return server.get(path, bearer(*who, **more)).status_code

    start = rows(server)
    if version == "11.0.2":
        dry = call_here(server, "--from", uri, *NAMES)
        assert dry.returncode == 0, dry.stderr
        assert "nothing was changed" in dry.stdout
        assert rows(server) == start
        assert rename("1", "ann") == 403
    done = call(server, "--from", uri, *NAMES, "--apply")
    assert done.returncode == 0, done.stderr
    assert "permissions granted" in done.stdout
    assert "differs: cleo has more than there on experiment 1 (one): EDIT, not READ" in done.stdout
    after = rows(server)
    assert set(start) <= set(after), "nothing was removed"

    # A user's own permission.
    assert rename("1", "ann") == 200
    assert rename("2", "ann") == 403
    assert rename("1", "trainer", groups=[]) == 200
    assert read(f"{API}/registered-models/get?name=churn", "ann") == 200
    assert read(f"{API}/registered-models/get?name=greeting", "ann") == 200
    assert read(f"{API}/registered-models/get?name=churn", "dora") == 403
    # A group's, for its members only, also where the provider spells it with a slash.
    assert rename("1", "ben", groups=["/research"]) == 200
    assert rename("1", "newcomer", groups=["research"]) == 200
    assert rename("1", "ben", groups=[]) == 403
    assert read(f"{API}/registered-models/get?name=greeting", "ben", groups=["research"]) == 200
    # Who was refused there is refused, although the group may.
    assert read(f"{API}/experiments/get?experiment_id=2", "cleo", groups=["guests"]) == 200
    assert read(f"{API}/experiments/get?experiment_id=2", "dora", groups=["guests"]) == 403
    # Administrators are who the assertion says, whatever they were there.
    assert read(f"{API}/experiments/get?experiment_id=2", "root@example.com", groups=[]) == 403
    assert ("root@example.com", 0) in after
    if version == "11.0.2":
        scorer = f"{API3}/scorers/get?experiment_id=1&name=tone/formal"
        assert read(scorer, "ann") == 200
        assert read(f"{API3}/gateway/endpoints/get?endpoint_id={ids['endpoint']}", "ann") == 200
        assert read(f"{API3}/gateway/secrets/get?secret_id={ids['secret']}", "ann") == 200
        definition = f"{API3}/gateway/model-definitions/get?model_definition_id={ids['definition']}"
        assert read(definition, "ann") == 200
        assert read(definition, "ben", groups=["research"]) == 403
        endpoint = f"{API3}/gateway/endpoints/get?endpoint_id={ids['endpoint']}"
        assert read(endpoint, "ben", groups=["research"]) == 200
        assert read(endpoint, "dora", groups=["guests"]) == 403
        assert read(f"{API3}/mcp-servers/io.example/tools", "ann") == 200
        assert read(f"{API3}/mcp-servers/io.example/tools", "dora", groups=["guests"]) == 403

        again = call_here(server, "--from", uri, *NAMES, "--apply")
        assert set(rows(server)) >= set(after)
        assert "granted" not in again.stdout
        assert "made" not in again.stdout
        assert_patterns(server, uri)
    # What was said to differ does.
    assert rename("1", "cleo", groups=["research"]) == 200
    assert rename("1", "cleo", groups=[]) == 403
    assert content(tmp_path / "old.db") == before


def assert_patterns(server: Server, uri: str) -> None:
    """They count only where they are asked for, and after permissions of its own, as there."""
    before = rows(server)

    def status(path: str, *groups: str) -> int:
        return server.get(f"{API}/{path}", bearer("dora", groups=list(groups))).status_code

    assert status("experiments/get?experiment_id=1", "guests") == 403
    done = call_here(server, "--from", uri, *NAMES, "--apply", "--expand-patterns")
    assert done.returncode == 0, done.stderr
    assert status("experiments/get?experiment_id=1", "guests") == 200
    assert status("registered-models/get?name=churn") == 200
    assert status("experiments/get?experiment_id=2", "guests") == 403
    assert set(before) <= set(rows(server))


@pytest.mark.whole
def test_permissions_of_workspaces_decide_in_their_workspace(tmp_path: Path) -> None:
    on = {"MLFLOW_ENABLE_WORKSPACES": "true"}
    uri = load("11.0.2", tmp_path / "old.db", "UPDATE registered_model_permissions SET workspace = 'team'")
    with Server(tmp_path, permission="NO_PERMISSIONS", environment=on) as server:
        team = {"X-MLFLOW-WORKSPACE": "team"}
        for path, headers, body in (
            (f"{API3}/workspaces", admin(), {"name": "team"}),
            (f"{API}/experiments/create", {**admin(), **team}, {"name": "one"}),
            (f"{API}/experiments/create", admin(), {"name": "tea two"}),
            (f"{API}/registered-models/create", {**admin(), **team}, {"name": "churn"}),
        ):
            answer = server.post(path, headers, json=body)
            assert answer.status_code in (200, 201), answer.text
        done = call(server, "--from", uri, *NAMES, "--apply", **on)
        assert done.returncode == 0, done.stderr
        assert "user ann: MANAGE on workspace team: granted" in done.stdout
        assert "READ on workspace team: for a workspace, MLflow has only USE and MANAGE" in done.stdout

        def may(name: str, *groups: str) -> list[int]:
            headers = {**bearer(name, groups=list(groups)), **team}
            return [
                server.get(f"{API}/experiments/get?experiment_id=1", headers).status_code,
                server.get(f"{API}/registered-models/get?name=churn", headers).status_code,
                server.get(f"{API}/experiments/get?experiment_id=2", headers).status_code,
                server.post(f"{API}/experiments/create", headers, json={"name": f"by {name}"}).status_code,
            ]

        assert may("ann") == [200, 200, 403, 200]
        assert may("cleo") == [200, 403, 403, 403]
        assert may("newcomer", "research") == [200, 403, 403, 200]
        assert may("dora", "guests") == [403, 403, 403, 403]
