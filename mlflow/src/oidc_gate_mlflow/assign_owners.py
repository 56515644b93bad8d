"""``assign-owners``: who had made something before MLflow knew its users becomes its owner in MLflow's permissions.

It reads MLflow's tracking database and writes MLflow's auth database, so it runs where MLflow runs. It adds permissions
and takes none away; what has an owner stays as it is.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from oidc_gate_mlflow.stores import PROMPT_TAG, make_user, mapping, open_stores, pages

OWNER_TAG = "mlflow.user"
# What clients wrote there when they ran in a container or did not know: no person.
NOBODY = frozenset({"", "root", "unknown", "mlflow", "nobody"})


@dataclass(frozen=True)
class Thing:
    """Something that can have an owner, as MLflow's permissions name it."""

    kind: str
    id: str
    name: str
    users: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}" + (f" ({self.name})" if self.name != self.id else "")


def run(options: argparse.Namespace) -> int:
    """Raises ``TokenError`` for settings that are missing."""
    names = mapping(options.map)
    ignored = NOBODY | set(options.ignore)
    stores = open_stores()
    store, tracking, registry = stores.auth, stores.tracking, stores.registry
    counts: collections.Counter[str] = collections.Counter()
    for thing in _things(tracking, registry):
        users = sorted({names.get(user, user) for user in thing.users} - ignored)
        if _is_owned(store, thing):
            counts["has an owner"] += 1
            continue
        if len(users) != 1:
            print(f"left out: {thing}: " + (f"several users: {', '.join(users)}" if users else "no user is known"))
            counts["left out"] += 1
            continue
        made = _grant(store, thing, users[0]) if options.apply else not store.has_user(users[0])
        words = "now belongs to" if options.apply else "would belong to"
        print(f"{thing} {words} {users[0]}" + (" (a new user, until the first sign-in)" if made else ""))
        counts["assigned" if options.apply else "to assign"] += 1
    print(", ".join(f"{number} {what}" for what, number in sorted(counts.items())) or "there is nothing")
    if not options.apply and counts["to assign"]:
        print("nothing was changed; run it again with --apply")
    return 0


def _things(tracking: Any, registry: Any) -> Iterator[Thing]:
    from mlflow.entities import ViewType

    for experiment in pages(tracking.search_experiments, view_type=ViewType.ALL):
        tag = experiment.tags.get(OWNER_TAG)
        users = (tag,) if tag else tuple(_users_of_runs(tracking, experiment.experiment_id))
        yield Thing("experiment", experiment.experiment_id, experiment.name, users)
    for prompts in (False, True):
        query = f"tags.`{PROMPT_TAG}` = 'true'" if prompts else None
        for model in pages(registry.search_registered_models, filter_string=query):
            tag = model.tags.get(OWNER_TAG)
            users = (tag,) if tag else tuple(_users_of_versions(registry, tracking, model.name))
            yield Thing("prompt" if prompts else "registered_model", model.name, model.name, users)


def _users_of_runs(tracking: Any, experiment_id: str) -> Iterator[str]:
    from mlflow.entities import ViewType

    search = tracking.search_runs
    for found in pages(
        lambda **more: search([experiment_id], "", ViewType.ALL, **more),
    ):
        yield found.data.tags.get(OWNER_TAG) or found.info.user_id or ""


def _users_of_versions(registry: Any, tracking: Any, name: str) -> Iterator[str]:
    from mlflow.exceptions import MlflowException

    quoted = name.replace("'", "''")
    for version in pages(registry.search_model_versions, filter_string=f"name='{quoted}'"):
        user = version.tags.get(OWNER_TAG) or version.user_id
        if not user and version.run_id:
            try:
                found = tracking.get_run(version.run_id)
            except MlflowException:
                continue
            user = found.data.tags.get(OWNER_TAG) or found.info.user_id
        yield user or ""


def _is_owned(store: Any, thing: Thing) -> bool:
    """Whether a user, and not only a role, may manage it."""
    from mlflow.server.auth.db.models import SqlRole, SqlRolePermission
    from sqlalchemy import select

    statement = (
        select(SqlRolePermission.id)
        .join(SqlRole, SqlRole.id == SqlRolePermission.role_id)
        .where(
            SqlRole.name.startswith("__user_", autoescape=True),
            SqlRolePermission.resource_type == thing.kind,
            SqlRolePermission.resource_pattern == thing.id,
            SqlRolePermission.permission == "MANAGE",
        )
        .limit(1)
    )
    with store.ManagedSessionMaker() as session:
        return session.execute(statement).first() is not None


def _grant(store: Any, thing: Thing, user: str) -> bool:
    """Returns whether the user had to be made."""
    made = make_user(store, user)
    store.grant_user_permission(user, thing.kind, thing.id, "MANAGE")
    return made
