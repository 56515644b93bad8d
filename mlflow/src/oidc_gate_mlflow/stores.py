"""What the operator's commands share: MLflow's stores from the variables that the server has, and users made ahead."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from oidc_gate_mlflow.client.errors import TokenError

PROMPT_TAG = "mlflow.prompt.is_prompt"
PAGE = 1000
# A column of mlflow-oidc-auth's table `users` that MLflow's table of the same name does not have.
FOREIGN_COLUMN = "display_name"
FOREIGN = (
    "MLflow's user database (MLFLOW_AUTH_DATABASE_URI) has the tables of mlflow-oidc-auth. MLflow's own have the same"
    " names, `users` and others, and MLflow would change these. Give MLflow another database, or another schema of"
    " PostgreSQL: ...?options=-csearch_path%3Dmlflow_auth"
)


@dataclass(frozen=True)
class Stores:
    """MLflow's auth store, tracking store and model registry."""

    auth: Any
    tracking: Any
    registry: Any
    default_permission: str


@dataclass(frozen=True)
class Auth:
    """MLflow's auth store, and the configuration that says where it is."""

    store: Any
    config: Any


def open_auth() -> Auth:
    """Raises ``TokenError`` for settings that are missing, and for an auth database that is not MLflow's."""
    from oidc_gate_mlflow import start

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
    try:
        foreign = has_foreign_tables(auth_config.database_uri)
    except SQLAlchemyError as error:
        raise TokenError(f"MLflow's user database can't be read: {type(error).__name__}") from None
    if foreign:
        raise TokenError(FOREIGN)
    store.init_db(auth_config.database_uri)
    return Auth(store, auth_config)


def open_stores() -> Stores:
    """Raises ``TokenError`` as ``open_auth`` does."""
    backend = os.environ.get("MLFLOW_BACKEND_STORE_URI")
    if not backend:
        raise TokenError("MLFLOW_BACKEND_STORE_URI is not set: where MLflow keeps its runs")
    auth = open_auth()
    from mlflow.tracking._model_registry.utils import _get_store as registry_store
    from mlflow.tracking._tracking_service.utils import _get_store as tracking_store

    registry = os.environ.get("MLFLOW_REGISTRY_STORE_URI") or backend
    return Stores(auth.store, tracking_store(backend), registry_store(registry), auth.config.default_permission)


def mapping(words: Iterable[str]) -> dict[str, str]:
    """From ``OLD=NEW``. Raises ``TokenError``."""
    pairs = [word.partition("=") for word in words]
    if any(not old or not new for old, _, new in pairs):
        raise TokenError("--map needs OLD=NEW")
    return {old.strip(): new.strip() for old, _, new in pairs}


def pages(search: Any, **arguments: Any) -> Iterator[Any]:
    """Everything that a paged search of MLflow finds."""
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return


def make_user(auth: Any, name: str) -> bool:
    """False if there is one. The first sign-in with this name takes the account that is made here."""
    from mlflow.server.auth.db.models import SqlUser

    from oidc_gate_mlflow.accounts import Binding

    if auth.has_user(name):
        return False
    with auth.ManagedSessionMaker(read_only=False) as session:
        session.add(SqlUser(username=name, password_hash=Binding(None).text(), is_admin=False))
    return True


def has_foreign_tables(uri: str) -> bool:
    """Whether it is the database of mlflow-oidc-auth. MLflow would take its tables for its own of long ago: it takes
    over those of 5.6.1 in part, and leaves those of 11.0.2 half changed.
    """
    url = make_url(uri)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).is_file()):
        return False
    engine = create_engine(url)
    try:
        tables = inspect(engine)
        if not tables.has_table("users"):
            return False
        return FOREIGN_COLUMN in {column["name"] for column in tables.get_columns("users")}
    finally:
        engine.dispose()
