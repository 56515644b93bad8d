"""The people and the objects of the table of routes, and the parameters of each request."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support import API, API3, Server, admin, bearer

if TYPE_CHECKING:
    from routes_table import Route

PEOPLE = ("admin", "owner", "editor", "reader", "user", "outsider", "nobody")


def headers(person: str) -> dict[str, str]:
    if person == "nobody":
        return {}
    if person == "admin":
        return admin("admin-person")
    return bearer(person, groups=[] if person == "outsider" else ["mlflow_users"])


_numbers = itertools.count()


@dataclass
class Objects:
    """One of everything, made by ``owner``, with grants for ``editor`` and ``reader``."""

    server: Server
    label: str
    ids: dict[str, str] = field(default_factory=dict)

    def new(self, word: str) -> str:
        return f"{word}-{self.label}-{next(_numbers)}"

    def make(self) -> Objects:
        ids = self.ids
        ids["experiment_name"] = self.new("e")
        ids["experiment_id"] = self._post(f"{API}/experiments/create", "experiment_id", name=ids["experiment_name"])
        experiment = ids["experiment_id"]
        ids["run_id"] = self._post(f"{API}/runs/create", "run.info.run_id", experiment_id=experiment)
        self._post(f"{API}/runs/log-metric", "", run_id=ids["run_id"], key="m", value=1, timestamp=1, step=0)
        self._post(f"{API}/runs/set-tag", "", run_id=ids["run_id"], key="colour", value="red")
        self._post(f"{API}/experiments/set-experiment-tag", "", experiment_id=experiment, key="colour", value="red")
        ids["model_id"] = self._post(f"{API}/logged-models", "model.info.model_id", experiment_id=experiment, name="m")
        ids["trace_id"] = self.new("tr")
        self._post(f"{API3}/traces", "", **self.trace(ids["trace_id"]))
        ids["assessment_id"] = self._post(
            f"{API3}/traces/{ids['trace_id']}/assessments", "assessment.assessment_id", **self.assessment()
        )
        ids["dataset_id"] = self._post(
            f"{API3}/datasets/create", "dataset.dataset_id", name=self.new("d"), experiment_ids=[experiment]
        )
        ids["issue_id"] = self._post(
            f"{API3}/issues", "issue.issue_id", experiment_id=experiment, name="n", description="d"
        )
        for name in ("model", "renamed"):
            ids[name] = self.new(name)
            self._post(f"{API}/registered-models/create", "", name=ids[name])
        self._post(f"{API}/model-versions/create", "", name=ids["model"], **self.version())
        self._post(f"{API}/registered-models/alias", "", name=ids["model"], alias="best", version="1")
        self._post(f"{API}/registered-models/set-tag", "", name=ids["model"], key="colour", value="red")
        self._post(f"{API}/model-versions/set-tag", "", name=ids["model"], version="1", key="colour", value="red")
        ids["scorer"] = "scorer"
        self._post(
            f"{API3}/scorers/register", "", experiment_id=experiment, name="scorer", serialized_scorer=self.scorer()
        )
        ids["schema_name"], ids["queue_name"] = self.new("schema"), self.new("queue")
        ids["schema_id"] = self._post(
            f"{API3}/label-schemas/create", "label_schema.schema_id", **self.schema(ids["schema_name"])
        )
        ids["queue_id"] = self._post(
            f"{API3}/review-queues/create",
            "review_queue.queue_id",
            experiment_id=experiment,
            name=ids["queue_name"],
            queue_type="CUSTOM",
        )
        ids["mcp"] = f"io.example/{self.new('mcp')}"
        self._post(f"{API3}/mcp-servers", "", name=ids["mcp"])
        self._post(f"{API3}/mcp-servers/{ids['mcp']}/versions", "", **self.mcp_version("1.0.0"))
        self._post(f"{API3}/mcp-servers/{ids['mcp']}/aliases", "", alias="best", version="1.0.0")
        ids["secret_id"] = self._post(
            f"{API3}/gateway/secrets/create",
            "secret.secret_id",
            secret_name=self.new("secret"),
            secret_value={"api_key": "k"},
            auth_config=self.model_provider(),
            provider="openai",
        )
        ids["model_definition_id"] = self._post(
            f"{API3}/gateway/model-definitions/create",
            "model_definition.model_definition_id",
            name=self.new("definition"),
            secret_id=ids["secret_id"],
            provider="openai",
            model_name="gpt",
        )
        ids["endpoint_name"] = self.new("endpoint")
        ids["endpoint_id"] = self._post(
            f"{API3}/gateway/endpoints/create",
            "endpoint.endpoint_id",
            name=ids["endpoint_name"],
            model_configs=[{"model_definition_id": ids["model_definition_id"], "linkage_type": "PRIMARY", "weight": 1}],
        )
        self._by_admin()
        self._upload()
        self._grant()
        return self

    def _by_admin(self) -> None:
        ids = self.ids
        ids["webhook_id"] = self._post(
            f"{API}/webhooks",
            "webhook.webhook_id",
            by="admin",
            name=self.new("hook"),
            url="https://127.0.0.1:9/x",
            events=[{"entity": "PROMPT", "action": "CREATED"}],
        )
        ids["role"] = self.new("role")
        ids["role_id"] = self._post(
            f"{API3}/roles/create", "role.id", by="admin", name=ids["role"], workspace="default"
        )
        ids["role_permission_id"] = self._post(
            f"{API3}/roles/permissions/add",
            "role_permission.id",
            by="admin",
            role_id=int(ids["role_id"]) if ids["role_id"].isdigit() else 0,
            resource_type="experiment",
            resource_pattern=ids["experiment_id"],
            permission="READ",
        )
        ids["victim"] = self.new("victim")
        self.server.get(f"{API}/users/current", bearer(ids["victim"]))

    def _upload(self) -> None:
        place = f"{self.ids['experiment_id']}/{self.ids['run_id']}/artifacts/a.txt"
        self.ids["artifact_path"] = place
        self.server.ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}", headers("owner"), data=b"hello")

    def _grant(self) -> None:
        grants = [
            ("experiment", self.ids["experiment_id"]),
            ("registered_model", self.ids["model"]),
            ("registered_model", self.ids["renamed"]),
            ("mcp_server", self.ids["mcp"]),
            ("gateway_secret", self.ids["secret_id"]),
            ("gateway_endpoint", self.ids["endpoint_id"]),
            ("gateway_model_definition", self.ids["model_definition_id"]),
        ]
        for person, permission in (("editor", "EDIT"), ("reader", "READ")):
            self.server.get(f"{API}/users/current", headers(person))
            for kind, identifier in grants:
                self._post(
                    f"{API3}/users/permissions/grant",
                    "",
                    by="admin",
                    username=person,
                    resource_type=kind,
                    resource_id=identifier,
                    permission=permission,
                )

    def _post(self, path: str, result: str, *, by: str = "owner", **body: Any) -> str:
        answer = self.server.post(path, headers(by), json=body)
        assert answer.status_code in (200, 201), f"{path}: {answer.status_code} {answer.text}"
        value: Any = answer.json() if result else ""
        for part in result.split(".") if result else ():
            value = value[part]
        return str(value)

    def trace(self, trace_id: str) -> dict[str, Any]:
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": self.ids["experiment_id"]}}
        info = {
            "trace_id": trace_id,
            "trace_location": place,
            "request_time": "2026-01-01T00:00:00Z",
            "state": "OK",
            "tags": {"colour": "red"},
        }
        return {"trace": {"trace_info": info}}

    def assessment(self) -> dict[str, Any]:
        source = {"source_type": "CODE", "source_id": "c"}
        said = {"trace_id": self.ids["trace_id"], "feedback": {"value": True}, "rationale": "r"}
        return {"assessment": {"assessment_name": "a", "source": source, **said}}

    def version(self) -> dict[str, Any]:
        return {"source": f"models:/{self.ids['model_id']}", "model_id": self.ids["model_id"]}

    def schema(self, name: str) -> dict[str, Any]:
        return {
            "experiment_id": self.ids["experiment_id"],
            "name": name,
            "type": "FEEDBACK",
            "input": {"pass_fail": {"positive_label": "yes", "negative_label": "no"}},
        }

    def mcp_version(self, version: str) -> dict[str, Any]:
        return {"server_json": {"name": self.ids["mcp"], "version": version, "description": "d"}}

    @staticmethod
    def model_provider() -> dict[str, str]:
        """Nobody listens there."""
        return {"api_base": "https://127.0.0.1:9/v1"}

    @staticmethod
    def scorer() -> str:
        return json.dumps({"name": "scorer", "builtin_scorer_class": "Safety", "builtin_scorer_pydantic_data": {}})


# The parameter `name` of each family of operations: an object that exists, or a new one.
NAMES = {
    "registered-models/create": "new",
    "registered-models/rename": "renamed",
    "registered-models": "model",
    "model-versions": "model",
    "scorers": "scorer",
    "label-schemas/get-by-name": "schema_name",
    "review-queues/get-by-name": "queue_name",
}


def parameters(route: Route, names: Iterable[str] | None, objects: Objects) -> dict[str, Any]:
    """Values for the fields of a message, or for everything that plain routes may ask for."""
    ids, operation = objects.ids, route.operation
    family = next((ids.get(NAMES[key], objects.new("n")) for key in NAMES if operation.startswith(key)), None)
    known: dict[str, Any] = {
        **{key: value for key, value in ids.items() if key.endswith("_id")},
        "request_id": ids["trace_id"],
        "experiment_ids": [ids["experiment_id"]],
        "experiment_name": ids["experiment_name"],
        "trace_ids": [ids["trace_id"]],
        "request_ids": [ids["trace_id"]],
        "run_ids": [ids["run_id"]],
        "name": family or objects.new("n"),
        "new_name": objects.new("n"),
        "version": "1",
        "alias": "best",
        "key": "colour",
        "tag_key": "colour",
        "value": 1 if operation == "runs/log-metric" else "red",
        "metric_key": "m",
        "max_results": 5,
        "timestamp": 1,
        "timestamp_ms": 1,
        "step": 0,
        "stage": "Staging",
        "status": "FINISHED" if operation.startswith("runs") else "OK",
        "tags": json.dumps({"colour": "red"})
        if operation.startswith("datasets")
        else [{"key": "colour", "value": "b"}],
        "params": [{"key": f"p{next(_numbers)}", "value": "1"}],
        "metrics": [{"key": "m", "value": 1, "timestamp": 1, "step": 0}],
        "description": "d",
        "source": f"models:/{ids['model_id']}",
        "records": json.dumps([{"inputs": {"q": "a"}}]),
        "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": ids["experiment_id"]}}],
        "update_mask": "rationale",
        "serialized_scorer": objects.scorer(),
        "item_type": "TRACE",
        "item_ids": [ids["trace_id"]],
        "item_id": ids["trace_id"],
        "users": [],
        "update_users": False,
        "queue_type": "CUSTOM",
        "secret_name": objects.new("s"),
        "secret_value": {"api_key": "k"},
        "auth_config": objects.model_provider(),
        "provider": "openai",
        "model_name": "gpt",
        "resource_type": "scorer",
        "resource_id": "none",
        "path": "",
    }
    if operation.startswith("traces") and route.method == "POST" and "trace" in (names or ()):
        return objects.trace(objects.new("tr"))
    if operation.endswith("/assessments") or "assessments/" in operation:
        return {**objects.assessment(), "update_mask": "rationale"} if route.method in ("POST", "PATCH") else {}
    if operation == "label-schemas/create":
        return objects.schema(objects.new("schema"))
    if operation.startswith("prompt-optimization") or "guardrails" in operation or "budgets" in operation:
        known["job_id"] = "none"
    if operation.startswith("datasets"):
        # Here, tags are a text.
        known["tags"] = json.dumps({"colour": "red"})
    if operation == "gateway/endpoints/get":
        known.pop("name")
    if operation.startswith("issues") and route.method in ("POST", "PATCH"):
        known.pop("status")
    if operation.startswith("webhooks") and route.method in ("POST", "PATCH"):
        known.update(url="https://127.0.0.1:9/y", events=[{"entity": "PROMPT", "action": "CREATED"}])
        known.pop("status")
    if operation.startswith("logged-models/<model_id>") and route.method == "PATCH":
        known["status"] = "LOGGED_MODEL_READY"
    if names is not None:
        return {name: known[name] for name in names if name in known}
    return plain(route, objects, known)


def plain(route: Route, objects: Objects, known: dict[str, Any]) -> dict[str, Any]:
    """Parameters of routes that have no protobuf message."""
    ids, operation = objects.ids, route.operation
    grant = {"resource_type": "experiment", "resource_id": ids["experiment_id"], "permission": "READ"}
    pattern = {"resource_type": "registered_model", "resource_pattern": ids["model"], "permission": "READ"}
    role = int(ids["role_id"])
    update = {"role_permission_id": int(ids["role_permission_id"]), "permission": "EDIT"}
    traces = {"experiment_id": ids["experiment_id"], "trace_ids": [ids["trace_id"]]}
    query = f'mlflowGetExperiment(input:{{experimentId:"{ids["experiment_id"]}"}})'
    tables: list[tuple[str, dict[str, Any]]] = [
        ("users/permissions", {"username": ids["victim"], **grant}),
        ("users/roles", {"username": ids["victim"]}),
        ("users/", {"username": ids["victim"], "password": "a-long-password", "is_admin": False}),
        ("roles/create", {"name": objects.new("role"), "workspace": "default"}),
        ("roles/list", {"workspace": "default"}),
        ("roles/permissions/add", {"role_id": role, **pattern}),
        ("roles/permissions", {"role_id": role, **update}),
        ("roles", {"role_id": role, "username": ids["victim"], "name": objects.new("role")}),
        ("mcp-servers/{name:path}/versions/{version:path}/tags", {"key": "colour", "value": "red"}),
        ("mcp-servers/{name:path}/versions/{version:path}", {"display_name": "d"}),
        ("mcp-servers/{name:path}/versions", objects.mcp_version(f"1.0.{next(_numbers)}")),
        ("mcp-servers/{name:path}/aliases", {"alias": "best", "version": "1.0.0"}),
        ("mcp-servers/{name:path}/tags", {"key": "colour", "value": "red"}),
        ("mcp-servers/{name:path}/endpoints", {"url": "https://mcp.example/", "transport_type": "sse"}),
        ("mcp-servers/{name:path}", {"description": "d"}),
        ("mcp-servers", {"name": f"io.example/{objects.new('mcp')}"} if route.method == "POST" else {}),
        ("graphql", {"query": f"{{{query}{{experiment{{name}}}}}}"}),
        ("get-artifact", {"run_id": ids["run_id"], "path": "a.txt"}),
        ("model-versions/get-artifact", {"name": ids["model"], "version": "1", "path": "a.txt"}),
        ("upload-artifact", {"run_uuid": ids["run_id"], "path": "b.txt"}),
        ("metrics/get-history-bulk", {"run_id": ids["run_id"], "metric_key": "m"}),
        ("gateway/", {"model": ids["endpoint_name"], "messages": []}),
        ("v1/traces", {}),
        ("assistant", {}),
        ("jobs", {}),
        ("demo", {"features": []}),
        ("experiments/search-datasets", {"experiment_ids": [ids["experiment_id"]]}),
        ("scorers/online-config", {"experiment_id": ids["experiment_id"], "name": "scorer", "sample_rate": 0}),
        ("scorer/invoke", {**traces, "serialized_scorer": objects.scorer()}),
        ("genai/evaluate/invoke", traces),
        ("issues/invoke", traces),
        ("get-trace-artifact", {"request_id": ids["trace_id"]}),
        ("runs/create-promptlab-run", {"experiment_id": ids["experiment_id"]}),
    ]
    return next(
        (values for prefix, values in tables if operation.startswith(prefix)), {"experiment_id": ids["experiment_id"]}
    )


def address(route: Route, objects: Objects) -> str:
    ids = objects.ids
    segments = {
        "name": ids["mcp"],
        "version": "1.0.0",
        "alias": "best",
        "key": "colour",
        "tag_key": "colour",
        "request_id": ids["trace_id"],
        "artifact_path": ids["artifact_path"],
        "endpoint_name": ids["endpoint_name"],
        "path": "none",
        "filename": "none",
        "workspace_name": "default",
    }

    def value(match: re.Match[str]) -> str:
        name = match[1].rpartition(":")[2] if match[0].startswith("<") else match[1].partition(":")[0]
        if name in ("endpoint_id",) or (name == "path" and "proxy" in route.rule):
            return "none"
        return segments.get(name) or ids.get(name) or "none"

    return re.sub(r"[<{]([^>}]+)[>}]", value, route.rule)
