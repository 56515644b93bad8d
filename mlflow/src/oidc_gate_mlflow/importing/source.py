"""Reads the tables of mlflow-oidc-auth. Nothing here writes, and the connection could not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import column, create_engine, inspect, select, table
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from oidc_gate_mlflow.client.errors import TokenError

USERS_DB = "OIDC_USERS_DB_URI"
VERSION_TABLE = "OIDC_ALEMBIC_VERSION_TABLE"
# The last revision of the schema in each version that this was tried with.
REVISIONS = {"0565cf04c12e": "5.6.1", "e1f2a3b4c5d6": "11.0.2"}
EVERY_WORKSPACE = "*"
# The columns that name the object. Prompts are in the tables of registered models.
KEYS: Mapping[str, tuple[str, ...]] = {
    "experiment": ("experiment_id",),
    "registered_model": ("name",),
    "scorer": ("experiment_id", "scorer_name"),
    "gateway_secret": ("secret_id",),
    "gateway_endpoint": ("endpoint_id",),
    "gateway_model_definition": ("model_definition_id",),
    "mcp_server": ("name",),
    "workspace": ("workspace",),
}
KINDS = {"5.6.1": ("experiment", "registered_model"), "11.0.2": tuple(KEYS)}
WITHOUT_PATTERNS = ("mcp_server",)


@dataclass(frozen=True, order=True)
class Who:
    """A user or a group, by name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Person:
    name: str
    is_admin: bool
    is_service: bool
    is_active: bool


@dataclass(frozen=True)
class Grant:
    """One permission on one object. ``workspace`` is None where the table does not say."""

    who: Who
    kind: str
    key: tuple[str, ...]
    permission: str
    workspace: str | None

    def __str__(self) -> str:
        return f"{self.who}: {self.permission} on {self.kind} {'/'.join(self.key)}"


@dataclass(frozen=True)
class Pattern:
    """One permission on every object whose name begins with something that fits."""

    who: Who
    kind: str
    regex: str
    priority: int
    permission: str
    workspace: str
    id: int

    def __str__(self) -> str:
        return f"{self.who}: {self.permission} on {self.kind} names like {self.regex!r}"


@dataclass
class Old:
    """What the tables say. ``problems`` names what could not be read."""

    version: str
    people: list[Person] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    members: dict[str, set[str]] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    patterns: list[Pattern] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read(uri: str) -> Old:
    """Raises ``TokenError`` if the database can't be opened, or has another schema."""
    engine = _engine(uri)
    try:
        with engine.connect() as connection:
            old = Old(_version(connection))
            _Reader(connection, old).read()
            return old
    except (SQLAlchemyError, sqlite3.Error) as error:
        # The message may have the address with its password.
        raise TokenError(f"the database of mlflow-oidc-auth can't be read: {_kind(error)}") from None
    finally:
        engine.dispose()


class _Reader:
    def __init__(self, connection: Connection, old: Old) -> None:
        self._connection = connection
        self._old = old

    def read(self) -> None:
        new = self._old.version != "5.6.1"
        users, groups = {}, {}
        for row in self._rows(
            "users", "id", "username", "is_admin", "is_service_account", *(["active"] if new else [])
        ):
            users[row.id] = row.username
            active = bool(row.active) if new else True
            person = Person(row.username, bool(row.is_admin), bool(row.is_service_account), active)
            self._old.people.append(person)
        for row in self._rows("groups", "id", "group_name"):
            groups[row.id] = row.group_name
            self._old.groups.append(row.group_name)
        for row in self._rows("user_groups", "user_id", "group_id"):
            if row.user_id in users and row.group_id in groups:
                self._old.members.setdefault(users[row.user_id], set()).add(groups[row.group_id])
        for kind in KINDS[self._old.version]:
            self._kind(kind, "user", users, new=new)
            self._kind(kind, "group", groups, new=new)

    def _kind(self, kind: str, who: str, names: Mapping[int, str], *, new: bool) -> None:
        middle = "_group" if who == "group" else ""
        holder = f"{who}_id"
        more = ["workspace"] if new and kind not in ("experiment", "scorer", "workspace") else []
        for row in self._rows(f"{kind}{middle}_permissions", *KEYS[kind], holder, "permission", *more):
            if owner := self._owner(who, names, getattr(row, holder), kind):
                key = tuple(str(getattr(row, name)) for name in KEYS[kind])
                workspace = row.workspace if more else None
                self._old.grants.append(Grant(owner, kind, key, str(row.permission), workspace))
        if kind in WITHOUT_PATTERNS:
            return
        more = ["workspace"] if new and kind != "workspace" else []
        more += ["prompt"] if kind == "registered_model" else []
        for row in self._rows(
            f"{kind}{middle}_regex_permissions", "id", "regex", "priority", holder, "permission", *more
        ):
            if owner := self._owner(who, names, getattr(row, holder), kind):
                prompt = kind == "registered_model" and bool(row.prompt)
                workspace = row.workspace if "workspace" in more else EVERY_WORKSPACE
                self._old.patterns.append(
                    Pattern(
                        owner,
                        "prompt" if prompt else kind,
                        str(row.regex),
                        int(row.priority),
                        str(row.permission),
                        workspace,
                        int(row.id),
                    )
                )

    def _owner(self, who: str, names: Mapping[int, str], identifier: int, kind: str) -> Who | None:
        if identifier in names:
            return Who(who, names[identifier])
        self._old.problems.append(f"a {kind} permission belongs to a {who} that does not exist (id {identifier})")
        return None

    def _rows(self, name: str, *columns: str) -> list[Any]:
        statement: Any = select(*(column(word) for word in columns)).select_from(table(name))
        try:
            # A savepoint: after an error, PostgreSQL refuses everything else in the same transaction.
            with self._connection.begin_nested():
                return list(self._connection.execute(statement.order_by(column(columns[0]))).all())
        except SQLAlchemyError as error:
            self._old.problems.append(f"the table {name} can't be read: {_kind(error)}")
            return []


def _engine(uri: str) -> Engine:
    try:
        url = make_url(uri)
        if url.get_backend_name() != "sqlite":
            engine = create_engine(url)
            options = {"postgresql_readonly": True} if url.get_backend_name() == "postgresql" else {}
            return engine.execution_options(isolation_level="REPEATABLE READ", **options)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise TokenError(f"--from is not an address of a database that can be opened here: {_kind(error)}") from None
    path = Path(url.database or "")
    if not path.is_file():
        raise TokenError(f"--from: there is no file {path}")
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    return create_engine("sqlite://", creator=lambda: sqlite3.connect(address, uri=True))


def _version(connection: Connection) -> str:
    tables = inspect(connection).get_table_names()
    named = os.environ.get(VERSION_TABLE)
    candidates = [named] if named else [name for name in tables if name.startswith("alembic_version")]
    revisions: list[str] = [revision for name in candidates if name in tables for revision in _column(connection, name)]
    for revision in revisions:
        if revision in REVISIONS:
            return REVISIONS[revision]
    supported = " and ".join(f"{version} (revision {revision})" for revision, version in REVISIONS.items())
    if not {"users", "groups", "user_groups"} <= set(tables):
        raise TokenError(
            f"--from has no tables of mlflow-oidc-auth. On PostgreSQL, name their schema:"
            f" ...?options=-csearch_path%3DNAME. Supported: {supported}"
        )
    if revisions:
        found = f"revision {', '.join(revisions)}"
    else:
        found = f"no revision. If the table of its revision has a name of yours, set {VERSION_TABLE}"
    raise TokenError(
        f"--from has another schema of mlflow-oidc-auth than those that are supported: {supported}. It has {found}."
        " Start mlflow-oidc-auth 11.0.2 once with a copy of the database: it brings the copy to its schema"
    )


def _column(connection: Connection, name: str) -> list[str]:
    statement: Any = select(column("version_num")).select_from(table(name))
    return list(connection.execute(statement).scalars())


def _kind(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return type(cause).__name__
