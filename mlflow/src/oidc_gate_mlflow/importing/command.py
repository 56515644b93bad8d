"""The command: reads, plans, writes what is missing, and says what it did not do.

It runs where MLflow runs, as ``assign-owners`` does. Nothing is removed, and nothing that an administrator decided in
MLflow before is lowered.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
from pathlib import Path
from typing import Any

from oidc_gate_mlflow.client.errors import TokenError
from oidc_gate_mlflow.importing import plan, source
from oidc_gate_mlflow.importing.source import Old, Who
from oidc_gate_mlflow.importing.things import Thing, entered, look
from oidc_gate_mlflow.settings import ADMIN_GROUPS, BOOTSTRAP_ADMIN, DEFAULT_BOOTSTRAP_ADMIN, admin_groups
from oidc_gate_mlflow.stores import Stores, make_user, mapping, open_stores

DESCRIPTION = "the permissions of the group of this name; imported from mlflow-oidc-auth"


def run(options: argparse.Namespace) -> int:
    """Raises ``TokenError`` for settings that are missing, and for a database that can't be read."""
    uri = options.source or os.environ.get(source.USERS_DB)
    if not uri:
        raise TokenError(f"which database has mlflow-oidc-auth? Give --from, or set {source.USERS_DB}")
    users = {**_map_file(options.map_file), **mapping(options.map)}
    old = source.read(uri)
    stores = open_stores()
    kinds = {grant.kind for grant in old.grants} | {pattern.kind for pattern in old.patterns}
    things = look(stores, kinds)
    made = plan.make(
        old, things, _names(stores, users), expand=options.expand_patterns, default=stores.default_permission
    )
    counts = _Writer(stores, things.workspaces, apply=options.apply).write(made)
    _report(old, made, users)
    counts["left out"] = len(made.left_out)
    counts["differences"] = len(made.differs)
    problems = old.problems + things.problems
    for problem in problems:
        print(f"not read: {problem}", file=sys.stderr)
    print(f"mlflow-oidc-auth {old.version}: " + ", ".join(f"{number} {what}" for what, number in counts.items()))
    if not options.apply:
        print("nothing was changed; run it again with --apply")
    return 1 if problems else 0


def _report(old: Old, made: plan.Plan, users: dict[str, str]) -> None:
    for note in made.notes:
        print(f"note: {note}")
    for text in made.left_out:
        print(f"left out: {text}")
    for text in made.differs:
        print(f"differs: {text}")
    there = {person.name for person in old.people}
    for name in sorted(set(users) - there):
        print(f"note: --map names {name}, who is no user there")
    addresses = [name for name in made.users if "@" in name]
    if addresses:
        print(
            f"note: {len(addresses)} users are called by an e-mail address; here, the claim preferred_username is the"
            " name (--map)"
        )


def _map_file(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenError(f"--map-file: {path} can't be read: {type(error).__name__}") from None
    return mapping(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))


def _names(stores: Stores, users: dict[str, str]) -> plan.Names:
    from oidc_gate_mlflow.accounts import Binding

    local = frozenset(user.username for user in stores.auth.list_users() if Binding.parse(user.password_hash) is None)
    return plan.Names(
        users=users,
        admin_groups=admin_groups(os.environ.get(ADMIN_GROUPS)),
        bootstrap_admin=os.environ.get(BOOTSTRAP_ADMIN) or DEFAULT_BOOTSTRAP_ADMIN,
        local_accounts=local,
    )


class _Writer:
    """Without ``apply``, it says what it would do and does nothing."""

    def __init__(self, stores: Stores, workspaces: bool, *, apply: bool) -> None:
        self._auth = stores.auth
        self._workspaces = workspaces
        self._apply = apply
        self._counts: collections.Counter[str] = collections.Counter()
        self._roles = {(role.workspace, role.name): role for role in self._auth.list_roles()}
        self._users = {user.username: user.id for user in self._auth.list_users()}

    def write(self, made: plan.Plan) -> collections.Counter[str]:
        for name in made.users:
            if name in self._users:
                self._counts["users there already"] += 1
                continue
            self._say(f"user {name}", "made", "would be made")
            self._counts["users made" if self._apply else "users to make"] += 1
            if self._apply:
                make_user(self._auth, name)
        for (who, thing), permission in sorted(made.grants.items()):
            self._grant(who, thing, permission)
        return self._counts

    def _grant(self, who: Who, thing: Thing, permission: str) -> None:
        role = self._roles.get((thing.workspace, self._role_of(who)))
        there = {} if role is None else {(one.resource_type, one.resource_pattern): one for one in role.permissions}
        now = there.get((thing.kind, thing.id))
        subject = f"{who}: {permission} on {thing}"
        if now is not None and now.permission == permission:
            self._counts["permissions there already"] += 1
            return
        if now is not None and not _raises(now.permission, permission):
            print(f"kept: {subject}: MLflow has {now.permission}")
            self._counts["permissions kept as they are"] += 1
            return
        self._say(subject, "granted", "would be granted")
        self._counts["permissions granted" if self._apply else "permissions to grant"] += 1
        if self._apply:
            with entered(thing.workspace, self._workspaces):
                self._write(who, thing, permission, role, now)

    def _write(self, who: Who, thing: Thing, permission: str, role: Any, now: Any) -> None:
        if who.kind == "user":
            if thing.kind == "workspace":
                self._auth.set_workspace_permission(thing.workspace, who.name, permission)
            else:
                self._auth.grant_user_permission(who.name, thing.kind, thing.id, permission)
        elif now is not None:
            self._auth.update_role_permission(now.id, permission)
        else:
            if role is None:
                role = self._auth.create_role(who.name, thing.workspace, DESCRIPTION)
                self._roles[thing.workspace, who.name] = role
            self._auth.add_role_permission(role.id, thing.kind, thing.id, permission)

    def _role_of(self, who: Who) -> str:
        """MLflow keeps the permissions of one user in a role of that user."""
        return who.name if who.kind == "group" else f"__user_{self._users.get(who.name)}__"

    def _say(self, subject: str, done: str, would: str) -> None:
        print(f"{subject}: {done if self._apply else would}")


def _raises(now: str, new: str) -> bool:
    """What an administrator refused stays refused, and what somebody may do is not refused."""
    return plan.REFUSES not in (now, new) and plan.stronger(now, new) != now
