"""The user's row and roles in MLflow's auth store, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event
from werkzeug.security import check_password_hash

from oidc_gate_mlflow.accounts import Accounts, Binding, owner_of
from oidc_gate_mlflow.assertion import Identity
from oidc_gate_mlflow.errors import Refusal
from oidc_gate_mlflow.settings import Settings
from support import KEY

ALICE = Identity("sub-1", "alice", frozenset({"/mlflow_users", "vision"}))


@pytest.fixture
def store(folder: Path) -> Iterator[Any]:
    made = SqlAlchemyStore()
    made.init_db(f"sqlite:///{folder / 'auth.db'}")
    yield made
    made.engine.dispose()


@pytest.fixture
def accounts(store: Any) -> Accounts:
    return Accounts(store, Settings.from_environment({"ASSERTION_KEYS": KEY}))


@pytest.fixture
def statements(store: Any) -> list[str]:
    said: list[str] = []

    def listen(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if not statement.startswith("PRAGMA"):
            said.append(statement)

    event.listen(store.engine, "before_cursor_execute", listen)
    return said


def roles(store: Any, name: str) -> set[str]:
    return {role.name for role in store.list_user_roles(store.get_user(name).id)}


def test_a_known_user_costs_two_statements(accounts: Accounts, store: Any, statements: list[str]) -> None:
    store.create_role("vision", "default")
    accounts.apply(ALICE)
    statements.clear()
    accounts.apply(ALICE)
    assert len(statements) == 2


def test_no_password_fits_the_row(accounts: Accounts, store: Any) -> None:
    accounts.apply(ALICE)
    column = store.get_user("alice").password_hash
    assert not check_password_hash(column, "")
    assert not check_password_hash(column, column)
    assert not store.authenticate_user("alice", owner_of("sub-1"))


def test_administrators_get_no_role_of_their_group(accounts: Accounts, store: Any) -> None:
    store.create_role("mlflow_admins", "default")
    assert accounts.apply(replace(ALICE, groups=frozenset({"mlflow_admins"}))).is_admin
    assert roles(store, "alice") == set()


@pytest.mark.parametrize(
    ("configured", "claimed", "is_admin"),
    [
        ("mlflow_admins", "/mlflow_admins", True),
        ("/mlflow_admins", "mlflow_admins", True),
        ("/dept/admins", "/dept/admins", True),
        ("dept/admins", "/dept/admins", True),
        ("/dept/admins", "dept/admins", True),
        ("mlflow_admins", "/dept/mlflow_admins", False),
        ("admins", "/dept/admins", False),
        ("dept/admins", "//dept/admins", False),
        ("mlflow_admins", "//mlflow_admins", False),
    ],
)
def test_admin_groups_are_compared_as_the_gate_does(store: Any, configured: str, claimed: str, is_admin: bool) -> None:
    settings = Settings.from_environment({"ASSERTION_KEYS": KEY, "OIDC_ADMIN_GROUP_NAME": configured})
    account = Accounts(store, settings).apply(replace(ALICE, groups=frozenset({claimed})))
    assert account.is_admin is is_admin


@pytest.mark.parametrize(
    ("role", "group", "given"),
    [
        ("research/vision", "/research/vision", True),
        ("/research/vision", "/research/vision", True),
        ("/research/vision", "research/vision", True),
        ("/vision", "/vision", True),
        ("vision", "//vision", False),
        ("/vision", "//vision", False),
        ("vision", "/research/vision", False),
    ],
)
def test_a_role_may_be_named_with_or_without_the_first_slash(
    accounts: Accounts, store: Any, role: str, group: str, given: bool
) -> None:
    store.create_role(role, "default")
    accounts.apply(replace(ALICE, groups=frozenset({group})))
    assert roles(store, "alice") == ({role} if given else set())
    accounts.apply(replace(ALICE, groups=frozenset()))
    assert roles(store, "alice") == set()


@pytest.mark.parametrize("group", ["Vision", "vision ", "a/vision", "/a/vision", "%vision", "vis_on"])
def test_only_the_whole_name_of_a_group_is_its_role(accounts: Accounts, store: Any, group: str) -> None:
    store.create_role("vision", "default")
    accounts.apply(replace(ALICE, groups=frozenset({group})))
    assert roles(store, "alice") == set()


def test_a_role_is_given_in_every_workspace_that_has_it(accounts: Accounts, store: Any) -> None:
    for workspace in ("default", "other"):
        store.create_role("vision", workspace)
    accounts.apply(ALICE)
    assert len(store.list_user_roles(store.get_user("alice").id)) == 2


def test_a_role_that_was_deleted_and_made_again_is_given_again(accounts: Accounts, store: Any) -> None:
    made = store.create_role("vision", "default")
    accounts.apply(ALICE)
    store.delete_role(made.id)
    accounts.apply(ALICE)
    store.create_role("vision", "default")
    accounts.apply(ALICE)
    assert roles(store, "alice") == {"vision"}


def test_more_roles_than_can_be_recorded_are_not_given(accounts: Accounts, store: Any) -> None:
    names = {f"group-{number}" for number in range(120)}
    for name in sorted(names):
        store.create_role(name, "default")
    accounts.apply(replace(ALICE, groups=frozenset(names)))
    given = roles(store, "alice")
    assert 40 <= len(given) < 120
    assert len(store.get_user("alice").password_hash) <= 255
    accounts.apply(replace(ALICE, groups=frozenset()))
    assert roles(store, "alice") == set()


def test_a_database_that_fails_is_503_and_says_nothing_of_itself(accounts: Accounts, store: Any) -> None:
    store.ManagedSessionMaker = broken
    for ask in (lambda: accounts.apply(ALICE), lambda: accounts.known("alice")):
        with pytest.raises(Refusal) as caught:
            ask()
        assert (caught.value.status, caught.value.retry_after) == (503, 5)
        assert "secret" not in str(caught.value)


def broken(read_only: bool = True) -> Any:
    from sqlalchemy.exc import OperationalError

    raise OperationalError("SELECT", {}, Exception("postgresql://user:secret@db"))


@pytest.mark.parametrize(
    ("column", "binding"),
    [
        ("!oidc-gate:abc:1,2", Binding("abc", frozenset({1, 2}))),
        ("!oidc-gate:abc:", Binding("abc")),
        ("!oidc-gate::", Binding(None)),
        ("scrypt:32768:8:1$salt$hash", None),
        ("", None),
        (None, None),
    ],
)
def test_what_the_column_says(column: str | None, binding: Binding | None) -> None:
    assert Binding.parse(column) == binding
    assert binding is None or binding.text() == column


def test_the_user_of_a_job_has_to_be_known(accounts: Accounts, store: Any) -> None:
    store.create_user("local", "a-long-password", is_admin=True)
    for name in ("nobody", "local"):
        with pytest.raises(Refusal, match="unknown"):
            accounts.known(name)
    accounts.apply(ALICE)
    assert accounts.known("alice").is_admin is False
