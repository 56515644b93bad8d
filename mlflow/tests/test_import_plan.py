"""``import-permissions`` without a server: what is read, what is decided, and what is written."""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from test_import_permissions import VERSIONS, load

from oidc_gate_mlflow import start
from oidc_gate_mlflow.client.errors import TokenError
from oidc_gate_mlflow.importing import command, plan, source
from oidc_gate_mlflow.importing.source import Grant, Old, Pattern, Person, Who
from oidc_gate_mlflow.importing.things import Thing, Things
from oidc_gate_mlflow.stores import FOREIGN, Stores, has_foreign_tables, make_user

ANN, BEN = Who("user", "ann"), Who("user", "ben")
TEAM, CLUB = Who("group", "team"), Who("group", "club")
ONE, TWO = Thing("default", "experiment", "1", "one"), Thing("default", "experiment", "2", "two")
NAMES = plan.Names({}, frozenset({"mlflow_admins"}), "oidc-gate-bootstrap", frozenset({"local"}))


def person(name: str, **more: bool) -> Person:
    return Person(name, **{"is_admin": False, "is_service": False, "is_active": True, **more})


def grant(who: Who, permission: str, experiment: str = "1") -> Grant:
    return Grant(who, "experiment", (experiment,), permission, None)


def pattern(who: Who, regex: str, permission: str, priority: int = 1) -> Pattern:
    return Pattern(who, "experiment", regex, priority, permission, "*", 1)


def make(*grants: Grant, patterns: tuple[Pattern, ...] = (), default: str = "NO_PERMISSIONS", **more: Any) -> plan.Plan:
    old = Old("11.0.2", [person("ann"), person("ben")], ["team", "club"], {"ben": {"team", "club"}})
    old.grants, old.patterns = list(grants), list(patterns)
    for name, value in more.items():
        setattr(old, name, value)
    things = Things(workspaces=False)
    things.add(("1",), ONE)
    things.add(("2",), TWO)
    return plan.make(old, things, NAMES, expand=bool(patterns), default=default)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_tables_of_the_real_package_are_read(tmp_path: Path, version: str) -> None:
    old = source.read(load(version, tmp_path / "old.db"))
    assert (old.version, old.problems) == (version, [])
    people = {one.name: one for one in old.people}
    assert people["root@example.com"].is_admin
    assert people["trainer"].is_service
    assert people["gone"].is_active == (version == "5.6.1")
    assert old.groups == ["/research", "guests", "mlflow_admins", "empty"]
    assert old.members["cleo"] == {"/research", "guests"}
    assert Grant(Who("group", "/research"), "experiment", ("1",), "EDIT", None) in old.grants
    kinds = {one.kind for one in old.grants}
    assert kinds == ({"experiment", "registered_model"} if version == "5.6.1" else set(source.KEYS))
    assert {one.kind for one in old.patterns} >= {"experiment", "registered_model", "prompt"}


def test_the_other_database_can_not_be_written(tmp_path: Path) -> None:
    engine = source._engine(load("5.6.1", tmp_path / "old.db"))
    with engine.connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("DELETE FROM users")


@pytest.mark.parametrize(
    ("statements", "complaint"),
    [
        (["UPDATE alembic_version SET version_num = '6a7b8c9def01'"], "5.6.1 (revision 0565cf04c12e) and 11.0.2"),
        (["UPDATE alembic_version SET version_num = '6a7b8c9def01'"], "It has revision 6a7b8c9def01"),
        (["ALTER TABLE alembic_version RENAME TO theirs"], "set OIDC_ALEMBIC_VERSION_TABLE"),
        (["DROP TABLE user_groups"], "no tables of mlflow-oidc-auth"),
    ],
)
def test_another_schema_is_refused(tmp_path: Path, statements: list[str], complaint: str) -> None:
    uri = load("5.6.1", tmp_path / "old.db", *statements)
    # A reader of part of it would be worse: it has the revision of another version.
    if "DROP" in statements[0]:
        sqlite3.connect(tmp_path / "old.db").executescript("DROP TABLE alembic_version")
    with pytest.raises(TokenError) as error:
        source.read(uri)
    assert complaint in str(error.value)


def test_a_version_table_with_a_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = load("5.6.1", tmp_path / "old.db", "ALTER TABLE alembic_version RENAME TO theirs")
    monkeypatch.setenv("OIDC_ALEMBIC_VERSION_TABLE", "theirs")
    assert source.read(uri).version == "5.6.1"


@pytest.mark.parametrize("uri", ["sqlite:////nowhere/users.db", "sqlite://", "nonsense", "nosuch://x/y"])
def test_an_address_that_leads_nowhere_is_refused(uri: str) -> None:
    with pytest.raises(TokenError, match="--from"):
        source.read(uri)


def test_a_table_that_can_not_be_read_is_a_problem_and_the_rest_is_read(tmp_path: Path) -> None:
    uri = load(
        "11.0.2",
        tmp_path / "old.db",
        "DROP TABLE scorer_permissions",
        "INSERT INTO experiment_permissions (experiment_id, user_id, permission) VALUES ('1', 99, 'READ')",
    )
    old = source.read(uri)
    assert [problem.partition(" can't")[0] for problem in old.problems] == [
        "a experiment permission belongs to a user that does not exist (id 99)",
        "the table scorer_permissions",
    ]
    assert old.grants


def test_who_is_left_out() -> None:
    people = [
        person("ann", is_active=False),
        person("local"),
        person("oidc-gate-bootstrap"),
        person("a\nb"),
        person("admin", is_admin=True),
    ]
    made = make(grant(ANN, "READ"), people=people)
    assert made.users == ["admin"]
    assert made.grants == {}
    assert len(made.left_out) == 5
    assert "administrator there" in made.notes[0]


def test_groups_become_roles_but_not_the_administrators() -> None:
    groups = [Who("group", name) for name in ("/team", "/a/b", "/mlflow_admins", "__user_1__")]
    made = make(*(grant(who, "READ") for who in groups), groups=[who.name for who in groups], members={})
    assert {who.name for who, _ in made.grants} == {"team", "/a/b"}
    assert sum("left out" in text for text in made.left_out) == 2


def test_what_mlflow_lacks_is_left_out() -> None:
    made = make(grant(ANN, "ADMIN"), grant(ANN, "READ", "77"), grant(ANN, "EDIT", "2"))
    assert made.grants == {(ANN, TWO): "EDIT"}
    assert "no permission 'ADMIN'" in made.left_out[0]
    assert "no such experiment" in made.left_out[1]


def test_two_names_that_become_one_have_the_stronger_permission() -> None:
    names = plan.Names({"ben": "ann"}, NAMES.admin_groups, "", frozenset())
    old = Old("11.0.2", [person("ann"), person("ben")], [], {}, [grant(ANN, "READ"), grant(BEN, "EDIT")])
    things = Things(workspaces=False)
    things.add(("1",), ONE)
    made = plan.make(old, things, names, expand=False, default="READ")
    assert made.users == ["ann"]
    assert made.grants == {(ANN, ONE): "EDIT"}


@pytest.mark.parametrize(
    ("grants", "default", "expected"),
    [
        ((grant(BEN, "READ"), grant(TEAM, "EDIT")), "NO_PERMISSIONS", ["more than there", "EDIT, not READ"]),
        ((grant(BEN, "EDIT"), grant(TEAM, "READ")), "NO_PERMISSIONS", []),
        ((grant(BEN, "EDIT"), grant(TEAM, "NO_PERMISSIONS")), "NO_PERMISSIONS", ["less than there", "DENY, not EDIT"]),
        ((grant(BEN, "NO_PERMISSIONS"), grant(TEAM, "EDIT")), "NO_PERMISSIONS", []),
        ((grant(CLUB, "NO_PERMISSIONS"), grant(TEAM, "EDIT")), "NO_PERMISSIONS", []),
        ((grant(BEN, "READ"),), "MANAGE", ["more than there", "MANAGE, not READ"]),
        ((grant(BEN, "NO_PERMISSIONS"),), "MANAGE", []),
    ],
)
def test_what_differs_is_said(grants: tuple[Grant, ...], default: str, expected: list[str]) -> None:
    made = make(*grants, default=default)
    assert len(made.differs) == bool(expected)
    assert all(word in made.differs[0] for word in expected)


def test_patterns_are_expanded_as_they_count_there() -> None:
    made = make(
        grant(ANN, "READ"),
        patterns=(
            pattern(ANN, "o", "MANAGE"),
            pattern(ANN, "t.*", "EDIT", 5),
            pattern(ANN, "tw", "READ", 2),
            pattern(BEN, "two$", "READ", 1),
            pattern(BEN, "t", "USE", 1),
            pattern(BEN, "wo", "MANAGE", 1),
            pattern(TEAM, "(", "READ"),
        ),
    )
    assert made.grants == {(ANN, ONE): "READ", (ANN, TWO): "READ", (BEN, TWO): "USE"}
    assert "not a pattern" in made.left_out[0]


def test_a_group_of_the_user_comes_before_a_pattern() -> None:
    made = make(grant(TEAM, "READ"), patterns=(pattern(BEN, ".*", "MANAGE"), pattern(ANN, "one", "EDIT")))
    assert made.grants == {(TEAM, ONE): "READ", (BEN, TWO): "MANAGE", (ANN, ONE): "EDIT"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqlAlchemyStore:
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    made = SqlAlchemyStore()
    made.init_db(f"sqlite:///{tmp_path / 'auth.db'}")
    return made


def write(store: SqlAlchemyStore, grants: dict[tuple[Who, Thing], str]) -> dict[str, int]:
    stores = Stores(store, None, None, "READ")
    return dict(command._Writer(stores, workspaces=False, apply=True).write(plan.Plan(["ann"], grants)))


def test_nothing_is_lowered(store: SqlAlchemyStore, capsys: pytest.CaptureFixture[str]) -> None:
    make_user(store, "ann")
    store.grant_user_permission("ann", "experiment", "1", "EDIT")
    role = store.create_role("team", "default")
    store.add_role_permission(role.id, "experiment", "1", "DENY")
    store.add_role_permission(role.id, "experiment", "2", "READ")
    there = {"users there already": 1}
    kept = {(ANN, ONE): "READ", (TEAM, ONE): "MANAGE"}
    assert write(store, kept) == {**there, "permissions kept as they are": 2}
    assert "MLflow has EDIT" in capsys.readouterr().out
    assert write(store, {(ANN, ONE): "DENY"}) == {**there, "permissions kept as they are": 1}
    more = {(ANN, ONE): "MANAGE", (TEAM, TWO): "EDIT"}
    assert write(store, more) == {**there, "permissions granted": 2}
    assert write(store, more) == {**there, "permissions there already": 2}
    found = {(one.resource_pattern, one.permission) for one in store.get_role(role.id).permissions}
    assert found == {("1", "DENY"), ("2", "EDIT")}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_database_of_the_other_package_is_not_taken_for_mlflows(
    tmp_path: Path, store: SqlAlchemyStore, version: str
) -> None:
    assert has_foreign_tables(load(version, tmp_path / "old.db"))
    assert not has_foreign_tables(store.db_uri)
    assert not has_foreign_tables(f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()


def test_names_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text("# who is who\nann@example.com = ann\n\nben@example.com=ben\n")
    assert command._map_file(str(path)) == {"ann@example.com": "ann", "ben@example.com": "ben"}
    with pytest.raises(TokenError, match="--map-file"):
        command._map_file(str(tmp_path / "none"))


def test_the_other_database_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OIDC_USERS_DB_URI", raising=False)
    with pytest.raises(TokenError, match="Give --from"):
        command.run(argparse.Namespace(source=None))


@pytest.mark.parametrize("version", VERSIONS)
def test_mlflow_does_not_start_with_the_other_database(tmp_path: Path, version: str) -> None:
    uri = load(version, tmp_path / "old.db")
    before = (tmp_path / "old.db").read_bytes()
    text, _ = start.make_ini({start.DATABASE_URI: uri})
    path = tmp_path / "auth.ini"
    path.write_text(text)
    assert start._foreign(str(path)) == [FOREIGN]
    assert (tmp_path / "old.db").read_bytes() == before
    text, _ = start.make_ini({start.DATABASE_URI: "postgresql+psycopg2://mlflow@127.0.0.1:1/none"})
    path.write_text(text)
    assert start._foreign(str(path)) == []
