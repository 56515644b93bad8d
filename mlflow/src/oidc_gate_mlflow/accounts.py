"""The user's row in MLflow's own auth database, and the roles that follow from groups.

MLflow keeps users, roles and permissions. This module adds nothing to them: it makes the row say what the assertion
says. The column ``password_hash`` holds something that no password has as its hash, in three parts:

``!oidc-gate:`` + which ``sub`` the name belongs to + ``:`` + the roles that were given because of a group.

So nobody can sign in with a password, even if MLflow's own passwords are switched back on; a name that is made again
for somebody else is noticed; and a role that an administrator gave by hand is not taken away with a group.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from mlflow.exceptions import MlflowException
from mlflow.server.auth.db.models import SqlRole, SqlUser, SqlUserRoleAssignment
from mlflow.server.auth.entities import User
from sqlalchemy import and_, or_, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from oidc_gate_mlflow.assertion import Identity
from oidc_gate_mlflow.errors import Refusal, denied, unavailable
from oidc_gate_mlflow.settings import Settings, group_name

PREFIX = "!oidc-gate:"
COLUMN_CHARACTERS = 255
ATTEMPTS = 8

_logger = logging.getLogger("oidc_gate_mlflow.accounts")


class Store(Protocol):
    """The part of MLflow's auth store that is used here."""

    def ManagedSessionMaker(self, read_only: bool = True) -> AbstractContextManager[Any]: ...  # noqa: N802


class _Changed(Exception):
    """Another request changed the same rows first: read again."""


@dataclass(frozen=True)
class Binding:
    """What the column ``password_hash`` says. ``owner`` is None for a user who was made ahead of the first sign-in."""

    owner: str | None
    roles: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, column: str | None) -> Binding | None:
        """None for the hash of a password: a local account."""
        if not column or not column.startswith(PREFIX):
            return None
        owner, _, roles = column[len(PREFIX) :].partition(":")
        return cls(owner or None, frozenset(int(role) for role in roles.split(",") if role))

    def text(self) -> str:
        return f"{PREFIX}{self.owner or ''}:{','.join(str(role) for role in sorted(self.roles))}"

    def fits(self) -> bool:
        return len(self.text()) <= COLUMN_CHARACTERS


def owner_of(subject: str) -> str:
    """A short form of ``sub`` that fits the column whatever its length."""
    return base64.urlsafe_b64encode(hashlib.sha256(subject.encode()).digest()).decode().rstrip("=")


@dataclass(frozen=True)
class Account:
    """The user's row, as it is from this request on."""

    id: int
    name: str
    is_admin: bool
    binding: Binding

    def user(self) -> Any:
        """As MLflow's store returns it."""
        return User(self.id, self.name, self.binding.text(), self.is_admin)


class Accounts:
    """Makes the auth database say what an assertion says.

    Everything is read in every request, in two statements. A cache of "already applied" would leave a demoted
    administrator in power in the workers that did not see the demotion.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def apply(self, identity: Identity) -> Account:
        """Raises ``Refusal``: 403 if the name belongs to somebody else, 503 if the database does not answer."""
        if identity.name == self._settings.bootstrap_admin:
            raise denied("This user name is reserved.", "name_reserved")
        groups = frozenset(group_name(group) for group in identity.groups)
        is_admin = not groups.isdisjoint(self._settings.admin_groups)
        try:
            for _ in range(ATTEMPTS):
                try:
                    return self._apply_once(identity, groups - self._settings.admin_groups, is_admin)
                except _Changed:
                    continue
        except (SQLAlchemyError, MlflowException) as error:
            # The message of a database error has addresses and sometimes values, so only its kind is logged.
            _logger.error("the auth database failed: %s", type(error.__cause__ or error).__name__)
        raise unavailable("MLflow's user database is not available right now.", "database") from None

    def known(self, name: str) -> Account:
        """The user of a job, who was here before. Raises ``Refusal``."""
        try:
            with self._store.ManagedSessionMaker() as session:
                row = session.execute(
                    select(SqlUser.id, SqlUser.username, SqlUser.password_hash, SqlUser.is_admin).where(
                        SqlUser.username == name
                    )
                ).one_or_none()
        except (SQLAlchemyError, MlflowException):
            raise unavailable("MLflow's user database is not available right now.", "database") from None
        binding = Binding.parse(row.password_hash) if row is not None and row.username == name else None
        if row is None or binding is None:
            raise Refusal(401, "UNAUTHENTICATED", "The user of this job is unknown.", reason="job_user_unknown")
        return Account(row.id, name, bool(row.is_admin), binding)

    def _apply_once(self, identity: Identity, groups: frozenset[str], is_admin: bool) -> Account:
        owner = owner_of(identity.subject)
        with self._store.ManagedSessionMaker() as session:
            user = session.execute(
                select(SqlUser.id, SqlUser.username, SqlUser.password_hash, SqlUser.is_admin).where(
                    SqlUser.username == identity.name
                )
            ).one_or_none()
            roles = _roles(session, user.id, groups) if user else []
        if user is None:
            self._create(identity.name, Binding(owner), is_admin)
            # Its roles come with the second reading, which also finds the row of a request that was faster.
            raise _Changed
        binding = self._own(user, identity.name, owner)
        held = {role.id for role in roles if role.held}
        wanted = {role.id for role in roles if group_name(role.name) in groups}
        given = (binding.roles & held & wanted) | (wanted - held)
        surplus = (binding.roles & held) - wanted
        new = _limited(Binding(owner, frozenset(given)), identity.name)
        missing = (wanted - held) & new.roles
        if new != binding or bool(user.is_admin) != is_admin or missing or surplus:
            self._write(user, new, is_admin, add=missing, remove=surplus)
        return Account(user.id, identity.name, is_admin, new)

    def _own(self, user: Any, name: str, owner: str) -> Binding:
        # A database may compare names without regard to case. Then the row may be somebody else's.
        binding = Binding.parse(user.password_hash) if user.username == name else None
        if binding is None:
            raise denied(
                "MLflow has a local account with this user name. An administrator has to delete it first.",
                "name_is_local_account",
            )
        if binding.owner not in (None, owner):
            raise denied(
                "This user name belonged to another account before. If it is the same person, who runs the server can"
                " release the name: python -m oidc_gate_mlflow release NAME. If not, an administrator has to delete"
                " that user in MLflow first.",
                "name_of_another_subject",
            )
        return binding

    def _create(self, name: str, binding: Binding, is_admin: bool) -> None:
        with self._store.ManagedSessionMaker(read_only=False) as session:
            session.add(SqlUser(username=name, password_hash=binding.text(), is_admin=is_admin))
            try:
                session.flush()
            except IntegrityError:
                session.rollback()

    def _write(self, user: Any, new: Binding, is_admin: bool, *, add: Iterable[int], remove: Iterable[int]) -> None:
        """One transaction that begins with a write, so that SQLite queues it instead of refusing it."""
        # MLflow's session turns every exception that leaves it into its own, so the outcome is a value until then.
        with self._store.ManagedSessionMaker(read_only=False) as session:
            done = _written(session, user, new, is_admin, add=add, remove=remove)
            if not done:
                session.rollback()
        if not done:
            raise _Changed


def _written(
    session: Any, user: Any, new: Binding, is_admin: bool, *, add: Iterable[int], remove: Iterable[int]
) -> bool:
    """False if another request was faster, or an administrator gave or deleted one of the roles at this moment."""
    changed = session.execute(
        SqlUser.__table__.update()
        .where(and_(SqlUser.id == user.id, SqlUser.password_hash == user.password_hash))
        .values(password_hash=new.text(), is_admin=is_admin)
    )
    if changed.rowcount != 1:
        return False
    assignment = SqlUserRoleAssignment
    if remove:
        session.execute(
            assignment.__table__.delete().where(
                and_(assignment.user_id == user.id, assignment.role_id.in_(list(remove)))
            )
        )
    try:
        for role in add:
            session.add(assignment(user_id=user.id, role_id=role))
        session.flush()
    except IntegrityError:
        return False
    return True


def _roles(session: Any, user_id: int, groups: frozenset[str]) -> list[Any]:
    """The roles that may bear a group's name, and those that the user has, in one statement."""
    names = sorted(groups | {f"/{group}" for group in groups})
    assignment = SqlUserRoleAssignment
    statement = (
        select(SqlRole.id, SqlRole.name, assignment.id.is_not(None).label("held"))
        .select_from(SqlRole)
        .outerjoin(assignment, and_(assignment.role_id == SqlRole.id, assignment.user_id == user_id))
        .where(or_(SqlRole.name.in_(names), assignment.id.is_not(None)))
    )
    # MLflow keeps the permissions of one user in a role with this prefix. No group may be one.
    return [role for role in session.execute(statement).all() if not role.name.startswith("__user_")]


def _limited(binding: Binding, name: str) -> Binding:
    """The column has room for some forty roles. Further ones are not given, which is the safe side."""
    roles = sorted(binding.roles)
    while not (limited := Binding(binding.owner, frozenset(roles))).fits():
        roles.pop()
    if limited != binding:
        _logger.warning("%r is in more groups with a role than can be recorded", name)
    return limited
