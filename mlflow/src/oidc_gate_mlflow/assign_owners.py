"""``assign-owners``: who had made something before MLflow knew its users becomes its owner in MLflow's permissions.

It reads MLflow's tracking database and writes MLflow's auth database, so it runs where MLflow runs. It adds permissions
and takes none away; what has an owner stays as it is.
"""

from __future__ import annotations

import argparse
import collections
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oidc_gate_mlflow.client.errors import TokenError

OWNER_TAG = "mlflow.user"
PROMPT_TAG = "mlflow.prompt.is_prompt"
# What clients wrote there when they ran in a container or did not know: no person.
NOBODY = frozenset({"", "root", "unknown", "mlflow", "nobody"})
PAGE = 1000


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
    mapping = _mapping(options.map)
    ignored = NOBODY | set(options.ignore)
    store, tracking, registry = _stores()
    counts: collections.Counter[str] = collections.Counter()
    for thing in _things(tracking, registry):
        users = sorted({mapping.get(user, user) for user in thing.users} - ignored)
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


def _mapping(words: Iterable[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    if any(not old or not new for old, _, new in pairs):
        raise TokenError("--map needs OLD=NEW")
    return {old: new for old, _, new in pairs}


def _stores() -> tuple[Any, Any, Any]:
    """The auth store, the tracking store and the model registry, from the variables that the server has."""
    from oidc_gate_mlflow import start

    backend = os.environ.get("MLFLOW_BACKEND_STORE_URI")
    if not backend:
        raise TokenError("MLFLOW_BACKEND_STORE_URI is not set: where MLflow keeps its runs")
    with tempfile.TemporaryDirectory() as folder:
        if not os.environ.get(start.CONFIG_PATH):
            text, mistakes = start.make_ini(os.environ)
            if mistakes:
                raise TokenError("; ".join(mistakes))
            path = Path(folder) / "auth.ini"
            path.touch(0o600)
            path.write_text(text, encoding="utf-8")
            os.environ[start.CONFIG_PATH] = str(path)
        from mlflow.server.auth import auth_config, store
        from mlflow.tracking._model_registry.utils import _get_store as registry_store
        from mlflow.tracking._tracking_service.utils import _get_store as tracking_store
    store.init_db(auth_config.database_uri)
    registry = os.environ.get("MLFLOW_REGISTRY_STORE_URI") or backend
    return store, tracking_store(backend), registry_store(registry)


def _things(tracking: Any, registry: Any) -> Iterator[Thing]:
    from mlflow.entities import ViewType

    for experiment in _pages(tracking.search_experiments, view_type=ViewType.ALL):
        tag = experiment.tags.get(OWNER_TAG)
        users = (tag,) if tag else tuple(_users_of_runs(tracking, experiment.experiment_id))
        yield Thing("experiment", experiment.experiment_id, experiment.name, users)
    for prompts in (False, True):
        query = f"tags.`{PROMPT_TAG}` = 'true'" if prompts else None
        for model in _pages(registry.search_registered_models, filter_string=query):
            tag = model.tags.get(OWNER_TAG)
            users = (tag,) if tag else tuple(_users_of_versions(registry, tracking, model.name))
            yield Thing("prompt" if prompts else "registered_model", model.name, model.name, users)


def _users_of_runs(tracking: Any, experiment_id: str) -> Iterator[str]:
    from mlflow.entities import ViewType

    search = tracking.search_runs
    for found in _pages(
        lambda **more: search([experiment_id], "", ViewType.ALL, **more),
    ):
        yield found.data.tags.get(OWNER_TAG) or found.info.user_id or ""


def _users_of_versions(registry: Any, tracking: Any, name: str) -> Iterator[str]:
    from mlflow.exceptions import MlflowException

    quoted = name.replace("'", "''")
    for version in _pages(registry.search_model_versions, filter_string=f"name='{quoted}'"):
        user = version.tags.get(OWNER_TAG) or version.user_id
        if not user and version.run_id:
            try:
                found = tracking.get_run(version.run_id)
            except MlflowException:
                continue
            user = found.data.tags.get(OWNER_TAG) or found.info.user_id
        yield user or ""


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return


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
    """Returns whether the user had to be made. The first sign-in with this name then takes the account."""
    from mlflow.server.auth.db.models import SqlUser

    from oidc_gate_mlflow.accounts import Binding

    made = not store.has_user(user)
    if made:
        with store.ManagedSessionMaker(read_only=False) as session:
            session.add(SqlUser(username=user, password_hash=Binding(None).text(), is_admin=False))
    store.grant_user_permission(user, thing.kind, thing.id, "MANAGE")
    return made
