"""What exists in MLflow now, under the names that mlflow-oidc-auth has for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from oidc_gate_mlflow.stores import PROMPT_TAG, Stores, pages

DEFAULT_WORKSPACE = "default"


@dataclass(frozen=True, order=True)
class Thing:
    """``id`` is what MLflow's permissions have, ``name`` what patterns are compared with."""

    workspace: str
    kind: str
    id: str
    name: str

    def __str__(self) -> str:
        if self.kind == "workspace":
            return f"workspace {self.name}"
        words = f"{self.kind} {self.id}" + (f" ({self.name})" if self.name != self.id else "")
        return words if self.workspace == DEFAULT_WORKSPACE else f"{words} in workspace {self.workspace}"


@dataclass
class Things:
    """Everything of the kinds that were asked for."""

    workspaces: bool
    by_key: dict[tuple[str, tuple[str, ...], str], Thing] = field(default_factory=dict)
    # Experiments and scorers: their ids are unique over all workspaces, and their permissions name none.
    anywhere: dict[tuple[str, tuple[str, ...]], Thing] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, key: tuple[str, ...], thing: Thing) -> None:
        self.by_key[thing.kind, key, thing.workspace] = thing
        if thing.kind in ("experiment", "scorer"):
            self.anywhere[thing.kind, key] = thing

    def find(self, kind: str, key: tuple[str, ...], workspace: str | None) -> Thing | None:
        """A prompt is found as a registered model, too: a user's permission there does not say which it is."""
        if kind in ("experiment", "scorer"):
            return self.anywhere.get((kind, key))
        place = workspace or DEFAULT_WORKSPACE
        found = self.by_key.get((kind, key, place))
        return found or (self.by_key.get(("prompt", key, place)) if kind == "registered_model" else None)

    def of(self, kind: str, workspace: str) -> Iterator[Thing]:
        """``*`` is every workspace."""
        for thing in self.by_key.values():
            if thing.kind == kind and workspace in ("*", thing.workspace):
                yield thing


def look(stores: Stores, kinds: Iterable[str]) -> Things:
    """Reads the lists of these kinds, in every workspace."""
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES

    things = Things(workspaces=bool(MLFLOW_ENABLE_WORKSPACES.get()))
    wanted = {"registered_model" if kind == "prompt" else kind for kind in kinds}
    for workspace in _workspaces(things):
        if things.workspaces and "workspace" in wanted:
            things.by_key["workspace", (workspace,), DEFAULT_WORKSPACE] = Thing(workspace, "workspace", "*", workspace)
        with entered(workspace, things.workspaces):
            for kind, search in _searches(stores).items():
                if kind in wanted:
                    _collect(things, kind, workspace, search)
    return things


@contextlib.contextmanager
def entered(workspace: str, enabled: bool) -> Iterator[None]:
    """MLflow's stores read and write in one workspace at a time."""
    if not enabled:
        yield
        return
    from mlflow.utils.workspace_context import ServerWorkspaceContext

    with ServerWorkspaceContext(workspace):
        yield


def _workspaces(things: Things) -> list[str]:
    if not things.workspaces:
        return [DEFAULT_WORKSPACE]
    from mlflow.server.workspace_helpers import _get_workspace_store

    store = _get_workspace_store(tracking_uri=os.environ["MLFLOW_BACKEND_STORE_URI"])
    return [workspace.name for workspace in store.list_workspaces()]


def _collect(
    things: Things, kind: str, workspace: str, search: Callable[[], Iterable[tuple[str, tuple[str, ...], str, str]]]
) -> None:
    from mlflow.exceptions import MlflowException

    try:
        for which, key, identifier, name in search():
            things.add(key, Thing(workspace, which, identifier, name))
    except (MlflowException, NotImplementedError) as error:
        things.problems.append(f"MLflow's list of {kind}s can't be read: {type(error).__name__}")


def _searches(stores: Stores) -> dict[str, Callable[[], Iterable[tuple[str, tuple[str, ...], str, str]]]]:
    """Each gives kind, key there, id here, name."""
    from mlflow.entities import ViewType

    tracking, registry, auth = stores.tracking, stores.registry, stores.auth

    def experiments() -> Iterator[tuple[str, tuple[str, ...], str, str]]:
        for one in pages(tracking.search_experiments, view_type=ViewType.ALL):
            yield "experiment", (one.experiment_id,), one.experiment_id, one.name

    def models() -> Iterator[tuple[str, tuple[str, ...], str, str]]:
        for kind, query in (("registered_model", None), ("prompt", f"tags.`{PROMPT_TAG}` = 'true'")):
            for one in pages(registry.search_registered_models, filter_string=query):
                yield kind, (one.name,), one.name, one.name

    def scorers() -> Iterator[tuple[str, tuple[str, ...], str, str]]:
        for one in pages(tracking.search_experiments, view_type=ViewType.ALL):
            # `list_scorers` refuses deleted experiments.
            for scorer in tracking.list_scorers_across_experiments([one.experiment_id]):
                identifier = auth._scorer_pattern(one.experiment_id, scorer.scorer_name)
                yield "scorer", (one.experiment_id, scorer.scorer_name), identifier, scorer.scorer_name

    def servers() -> Iterator[tuple[str, tuple[str, ...], str, str]]:
        for one in pages(tracking.search_mcp_servers):
            yield "mcp_server", (one.name,), one.name, one.name

    # There, a gateway's permission has the name. Here it has the id.
    return {
        "experiment": experiments,
        "registered_model": models,
        "scorer": scorers,
        "mcp_server": servers,
        "gateway_secret": lambda: (
            ("gateway_secret", (one.secret_name,), one.secret_id, one.secret_name)
            for one in tracking.list_secret_infos()
        ),
        "gateway_endpoint": lambda: (
            ("gateway_endpoint", (one.name,), one.endpoint_id, one.name) for one in tracking.list_gateway_endpoints()
        ),
        "gateway_model_definition": lambda: (
            ("gateway_model_definition", (one.name,), one.model_definition_id, one.name)
            for one in tracking.list_gateway_model_definitions()
        ),
    }
