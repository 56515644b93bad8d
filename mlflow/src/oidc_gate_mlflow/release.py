"""``release``: a user name forgets which ``sub`` it belongs to.

A realm or an account that is made again has new ``sub``s, and everybody with a name from before is refused,
administrators included. Only who runs the server can tell whether the names still belong to the same people, so this is
a command there, and no route. It writes MLflow's auth database. The server reads it in every request, so no restart is
needed.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from oidc_gate_mlflow.client.errors import TokenError
from oidc_gate_mlflow.settings import BOOTSTRAP_ADMIN, DEFAULT_BOOTSTRAP_ADMIN
from oidc_gate_mlflow.stores import open_auth

WARNING = (
    "Whoever signs in next with a released name takes it, with all its permissions, roles and objects. That can also be"
    " the account that had it before. So first make sure that the identity provider gives each of these names only to"
    " the person whom you mean."
)


class Outcome(Enum):
    """What a name is, as the sums at the end call it."""

    RELEASED = "released"
    FREE = "free already"
    UNKNOWN = "unknown"
    LOCAL = "local account"
    RESERVED = "reserved"


REFUSALS = {
    Outcome.UNKNOWN: "MLflow has no user of this name",
    Outcome.LOCAL: "a local account with a password, which belongs to no sub; it has to be deleted",
    Outcome.RESERVED: "MLflow's first administrator; nobody can sign in with this name",
}


def run(options: argparse.Namespace) -> int:
    """Raises ``TokenError`` for settings that are missing."""
    if bool(options.names) == bool(options.all):
        raise TokenError("which names? Give them, or --all")
    auth = open_auth()
    reserved = {os.environ.get(BOOTSTRAP_ADMIN) or DEFAULT_BOOTSTRAP_ADMIN, auth.config.admin_username}
    return Release(auth.store, frozenset(reserved), apply=options.apply).of(None if options.all else options.names)


@dataclass(frozen=True)
class Release:
    """Without ``apply``, it says what it would do and does nothing."""

    store: Any
    reserved: frozenset[str]
    apply: bool

    def of(self, names: Iterable[str] | None) -> int:
        """None for all names. Returns the exit code: 1 if one of ``names`` can't be released."""
        asked = sorted(user.username for user in self.store.list_users()) if names is None else dict.fromkeys(names)
        counts: collections.Counter[Outcome] = collections.Counter()
        for name in asked:
            outcome = self._one(name)
            counts[outcome] += 1
            if outcome in REFUSALS:
                # Of all names, nobody asked for this one.
                print(f"left out: {name}: {REFUSALS[outcome]}", file=sys.stdout if names is None else sys.stderr)
            elif outcome is Outcome.FREE:
                print(f"{name}: free already")
            else:
                print(f"{name}: {'released' if self.apply else 'would be released'}")
        if counts[Outcome.RELEASED]:
            print(WARNING)
        words = {Outcome.RELEASED: "released" if self.apply else "to release"}
        sums = [f"{counts[outcome]} {words.get(outcome, outcome.value)}" for outcome in Outcome if counts[outcome]]
        print(", ".join(sums) or "there is nobody")
        if counts[Outcome.RELEASED] and not self.apply:
            print("nothing was changed; run it again with --apply")
        return 1 if names is not None and any(counts[outcome] for outcome in REFUSALS) else 0

    def _one(self, name: str) -> Outcome:
        from mlflow.server.auth.db.models import SqlUser
        from sqlalchemy import and_, select

        from oidc_gate_mlflow.accounts import Binding

        if name in self.reserved:
            return Outcome.RESERVED
        while True:
            with self.store.ManagedSessionMaker() as session:
                row = session.execute(
                    select(SqlUser.id, SqlUser.username, SqlUser.password_hash).where(SqlUser.username == name)
                ).one_or_none()
            # A database may compare names without regard to case.
            if row is None or row.username != name:
                return Outcome.UNKNOWN
            binding = Binding.parse(row.password_hash)
            if binding is None:
                return Outcome.LOCAL
            if binding.owner is None:
                return Outcome.FREE
            if not self.apply:
                return Outcome.RELEASED
            # Which roles came from a group stays known: the next one keeps only those of their own groups. Who is an
            # administrator follows from the next assertion; until then, a job of this user is no administrator's.
            free = Binding(None, binding.roles).text()
            with self.store.ManagedSessionMaker(read_only=False) as session:
                changed = session.execute(
                    SqlUser.__table__.update()
                    .where(and_(SqlUser.id == row.id, SqlUser.password_hash == row.password_hash))
                    .values(password_hash=free, is_admin=False)
                ).rowcount
            if changed == 1:
                return Outcome.RELEASED
            # A request changed the row at this moment: read it again.
