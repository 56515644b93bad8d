"""``release`` without a server: what it refuses, what it keeps, and that it may be run again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

from oidc_gate_mlflow import cli
from oidc_gate_mlflow.accounts import Accounts, Binding, owner_of
from oidc_gate_mlflow.assertion import Identity
from oidc_gate_mlflow.client.errors import TokenError
from oidc_gate_mlflow.errors import Refusal
from oidc_gate_mlflow.release import WARNING, Release, run
from oidc_gate_mlflow.settings import Settings
from support import KEY

OLD = Identity("old", "ann", frozenset({"vision", "mlflow_admins"}))
NEW = Identity("new", "ann", frozenset({"mlflow_users"}))


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    made = SqlAlchemyStore()
    made.init_db(f"sqlite:///{folder / 'auth.db'}")
    made.create_user("local", "a-long-password")
    made.create_user("first-admin", "a-long-password", is_admin=True)
    made.create_role("vision", "default")
    yield made
    made.engine.dispose()


@pytest.fixture
def accounts(store: Any) -> Accounts:
    return Accounts(store, Settings.from_environment({"ASSERTION_KEYS": KEY}))


def release(store: Any, *names: str, apply: bool = True) -> int:
    return Release(store, frozenset({"first-admin"}), apply=apply).of(names or None)


def binding(store: Any, name: str = "ann") -> Binding | None:
    return Binding.parse(store.get_user(name).password_hash)


def test_a_released_name_belongs_to_the_next_one(
    accounts: Accounts, store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = accounts.apply(OLD)
    store.grant_user_permission("ann", "experiment", "1", "MANAGE")
    by_hand = store.create_role("reviewers", "default")
    store.assign_role_to_user(before.id, by_hand.id)
    with pytest.raises(Refusal, match="release NAME"):
        accounts.apply(NEW)

    assert release(store, "ann", apply=False) == 0
    said = capsys.readouterr().out
    assert "ann: would be released" in said
    assert WARNING in said
    assert "1 to release" in said
    assert "nothing was changed" in said
    with pytest.raises(Refusal):
        accounts.apply(NEW)

    assert release(store, "ann", "ann") == 0
    said = capsys.readouterr().out
    assert "ann: released" in said
    assert WARNING in said
    assert "1 released" in said
    # Until the next sign-in, a job of this user is not an administrator's.
    assert not accounts.known("ann").is_admin
    assert release(store, "ann") == 0
    said = capsys.readouterr().out
    assert "ann: free already" in said
    assert WARNING not in said

    after = accounts.apply(NEW)
    assert (after.id, after.is_admin) == (before.id, False)
    assert binding(store) == Binding(owner_of("new"))
    names = {role.name for role in store.list_user_roles(after.id)}
    assert {"reviewers"} == {name for name in names if not name.startswith("__user_")}
    assert store.get_experiment_permission("1", "ann").permission == "MANAGE"
    with pytest.raises(Refusal, match="another account"):
        accounts.apply(OLD)


def test_the_roles_of_a_group_are_those_of_the_next_one(accounts: Accounts, store: Any) -> None:
    plain = replace(OLD, groups=frozenset({"vision"}))
    accounts.apply(plain)
    given = binding(store)
    assert given is not None
    assert given.roles
    release(store, "ann")
    assert binding(store) == Binding(None, given.roles)
    accounts.apply(replace(plain, subject="new"))
    assert binding(store) == Binding(owner_of("new"), given.roles)


def test_local_reserved_and_unknown_names_are_refused(
    accounts: Accounts, store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts.apply(OLD)
    before = {name: store.get_user(name).password_hash for name in ("local", "first-admin")}
    for apply in (False, True):
        assert release(store, "local", "first-admin", "Ann", "ann", "nobody", apply=apply) == 1
        said = capsys.readouterr()
        assert "local: a local account" in said.err
        assert "first-admin: MLflow's first administrator" in said.err
        assert "Ann: MLflow has no user of this name" in said.err
        assert "nobody: MLflow has no user of this name" in said.err
        assert f"1 {'released' if apply else 'to release'}, 2 unknown, 1 local account, 1 reserved" in said.out
    assert {name: store.get_user(name).password_hash for name in before} == before
    assert binding(store) == Binding(None, frozenset({store.list_roles()[0].id}))


def test_all_names_at_once(accounts: Accounts, store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ann", "ben"):
        accounts.apply(replace(NEW, name=name))
    assert release(store) == 0
    said = capsys.readouterr()
    assert "left out: local" in said.out
    assert "2 released, 1 local account, 1 reserved" in said.out
    assert said.err == ""
    assert [binding(store, name) for name in ("ann", "ben", "local")] == [Binding(None), Binding(None), None]


def test_a_request_at_the_same_moment_is_not_overwritten(accounts: Accounts, store: Any) -> None:
    """The row changes between its reading and its writing."""
    accounts.apply(NEW)
    make = store.ManagedSessionMaker
    role = store.list_roles()[0].id
    written = []

    @contextmanager
    def meanwhile(read_only: bool = True) -> Iterator[Any]:
        if not read_only and not written:
            written.append(True)
            store.ManagedSessionMaker = make
            accounts.apply(replace(NEW, groups=frozenset({"vision"})))
        with make(read_only=read_only) as session:
            yield session

    store.ManagedSessionMaker = meanwhile
    assert release(store, "ann") == 0
    assert written
    assert binding(store) == Binding(None, frozenset({role}))


@pytest.mark.parametrize("words", [[], ["ann", "--all"]])
def test_the_names_have_to_be_given(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TokenError, match="which names"):
        run(argparse.Namespace(names=[word for word in words if word != "--all"], all="--all" in words, apply=True))
    assert cli.main(["release", *words]) == 1
    assert "--all" in capsys.readouterr().err
