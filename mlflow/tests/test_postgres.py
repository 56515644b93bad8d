"""PostgreSQL: many first requests at once, in several workers, and an address with a percent sign."""

from __future__ import annotations

import concurrent.futures
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from test_import_permissions import call, load

from oidc_gate_mlflow.release import Release
from support import API, API3, Server, admin, bearer, free_port

pytestmark = pytest.mark.server

PASSWORD = "p@ss%word"
BINARIES = "/usr/lib/postgresql"


def program(name: str) -> str | None:
    """Debian keeps the server's programs out of PATH."""
    installed = sorted(Path(BINARIES).glob(f"*/bin/{name}")) if Path(BINARIES).is_dir() else []
    return str(installed[-1]) if installed else shutil.which(name)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database, without the driver."""
    initdb, postgres = program("initdb"), program("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg2", reason="the driver is not installed: pip install psycopg2-binary")
    folder = tmp_path_factory.mktemp("postgres")
    user: str | None = None
    if os.getuid() == 0:
        # PostgreSQL refuses to run as root.
        user = "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"
        for place in (folder, *folder.parents):
            if place == Path(place.anchor) or str(place) == "/tmp":
                break
            place.chmod(0o711)
        shutil.chown(folder, user)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data, port = folder / "data", free_port()
    subprocess.run(
        [initdb, "-D", str(data), "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={secret}"],
        user=user,
        check=True,
        capture_output=True,
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [postgres, "-D", str(data), "-p", str(port), "-k", str(data), "-c", "listen_addresses=127.0.0.1"],
            user=user,
            stdout=log,
            stderr=log,
        )
    try:
        import psycopg2

        limit = time.monotonic() + 30
        while True:
            try:
                psycopg2.connect(
                    host="127.0.0.1", port=port, user="mlflow", password=PASSWORD, dbname="postgres"
                ).close()
                break
            except psycopg2.OperationalError:
                if time.monotonic() > limit or server.poll() is not None:
                    raise
                time.sleep(0.2)
        yield f"mlflow:p%40ss%25word@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def workers(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An MLflow with three workers."""
    uri = f"postgresql+psycopg2://{database}"
    # Roles and runs in one database: a stack that has only one can keep it.
    both = {"MLFLOW_AUTH_DATABASE_URI": uri, "MLFLOW_BACKEND_STORE_URI": uri}
    with Server(tmp_path_factory.mktemp("workers"), workers=3, environment=both) as server:
        yield server


def test_fifty_first_requests_in_three_workers_make_one_user(workers: Server) -> None:
    server = workers
    made = server.post(f"{API3}/roles/create", admin(), json={"name": "crowd", "workspace": "default"})
    assert made.status_code == 200, made.text
    for path in (f"{API}/users/current", f"{API3}/mcp-servers"):
        name = f"somebody {path}"
        headers = bearer(name, groups=["crowd", "mlflow_users"])
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            answers = [
                answer.status_code for answer in pool.map(lambda _, h=headers, p=path: server.get(p, h), range(50))
            ]
        assert set(answers) == {200}
        users = server.get(f"{API}/users/list", admin()).json()["users"]
        found = [user for user in users if user["username"] == name]
        assert len(found) == 1
        assert "crowd" in [role["name"] for role in found[0]["roles"]]
    experiment = server.experiment(bearer("ann"), "of ann")
    assert server.run(bearer("ann"), experiment)
    change = {"experiment_id": experiment, "new_name": "x"}
    assert server.post(f"{API}/experiments/update", bearer("ben"), json=change).status_code == 403
    # Two tokens of one person with different groups, at once: nobody gets an error.
    both_ways = [bearer("zoe", groups=["crowd"]), bearer("zoe", groups=["mlflow_admins"])]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = [
            answer.status_code
            for answer in pool.map(lambda n: server.get(f"{API}/users/current", both_ways[n % 2]), range(100))
        ]
    assert set(answers) <= {200, 503}
    assert answers.count(200) >= 90
    assert "p%40ss" not in server.log
    assert PASSWORD not in server.log


def test_a_released_name_is_free_in_every_worker_at_once(
    workers: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = (f"{API}/users/current", f"{API3}/mcp-servers")

    def statuses(sub: str) -> set[int]:
        # A connection of its own for each, so every worker is asked.
        headers = bearer("rosa", sub=sub)
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            return set(pool.map(lambda number: workers.get(paths[number % 2], headers).status_code, range(36)))

    assert statuses("first") == {200}
    assert statuses("second") == {403}
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    store = SqlAlchemyStore()
    store.init_db(workers.environment["MLFLOW_AUTH_DATABASE_URI"])
    try:
        assert Release(store, frozenset(), apply=True).of(["rosa"]) == 0
    finally:
        store.engine.dispose()
    assert "rosa: released" in capsys.readouterr().out
    assert statuses("second") == {200}
    assert statuses("first") == {403}


@pytest.mark.whole
def test_permissions_are_imported_from_a_schema_beside_mlflows(database: str, tmp_path: Path) -> None:
    from sqlalchemy import MetaData, NullPool, create_engine, func, select

    schema = "old"
    base = f"postgresql+psycopg2://{database}"
    uri = f"{base}?options=-csearch_path%3D{schema}"
    there = create_engine(load("11.0.2", tmp_path / "old.db"))
    tables = MetaData()
    tables.reflect(there)
    # MLflow's own tables are in another schema of the same database, and have the same names.
    mine = f"{base}?options=-csearch_path%3Dauth_{schema}"
    # Without a pool: PostgreSQL stops only when no connection is left.
    engine = create_engine(base, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        connection.exec_driver_sql(f"CREATE SCHEMA auth_{schema}")
    engine = create_engine(uri, poolclass=NullPool)
    for table in tables.sorted_tables:
        for column in table.columns:
            # As PostgreSQL calls them. What SQLite gives for a default is written out anyway.
            column.type, column.server_default = column.type.as_generic(), None
    tables.create_all(engine)
    with there.connect() as source, engine.begin() as target:
        for table in tables.sorted_tables:
            if found := [dict(row._mapping) for row in source.execute(select(table))]:
                target.execute(table.insert(), found)
    server = Server(tmp_path, permission="NO_PERMISSIONS")
    refused = call(server, "--from", uri, MLFLOW_AUTH_DATABASE_URI=uri)
    assert refused.returncode == 1
    assert "has the tables of mlflow-oidc-auth" in refused.stderr
    done = call(server, "--from", uri, "--apply", MLFLOW_AUTH_DATABASE_URI=mine)
    assert done.returncode == 0, done.stderr
    assert "6 users made" in done.stdout
    with engine.begin() as connection:
        users = tables.tables["users"]
        assert connection.execute(select(func.count()).select_from(users)).scalar() == 7
        connection.exec_driver_sql("DROP TABLE experiment_permissions")
    broken = call(server, "--from", uri, MLFLOW_AUTH_DATABASE_URI=mine)
    assert broken.returncode == 1
    assert "not read: the table experiment_permissions" in broken.stderr
    assert "6 users there already" in broken.stdout
