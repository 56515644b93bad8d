"""The table of routes: which there are in this MLflow, and what each answers to whom.

Each person has their own set of objects, all owned by ``owner``, so what one deletes the next still finds. A request
names an object that exists and has the parameters that the route asks for, where they are known; the other routes
answer 400, 404, 422 or 501 to those whom they let in.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from routes_objects import PEOPLE, Objects, address, headers, parameters
from support import Server

PERMISSIONS = ("READ", "NO_PERMISSIONS")
FRAMEWORKS = ("Flask", "FastAPI", "auth app")

# Nothing that a route starts may leave this machine, or change the home of who runs the tests.
ENVIRONMENT = {
    "MLFLOW_MODEL_CATALOG_URI": "file:///nowhere",
    "MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_WEBHOOK_REQUEST_TIMEOUT": "2",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "127.0.0.1",
}

# Prints what the running server has. FastAPI wraps the routers that are included: without looking into them, a walk
# finds none of their routes.
LIST = """
import json, os
os.environ["_MLFLOW_SGI_NAME"] = "uvicorn"
from mlflow.server import app as flask
from mlflow.server import handlers
def rules():
    return {(m, r.rule) for r in flask.url_map.iter_rules() for m in r.methods - {"HEAD", "OPTIONS"}}
stock = rules()
from mlflow.server.auth import create_app
app = create_app()
def walk(routes, prefix=""):
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from walk(inner.routes, prefix + route.include_context.prefix)
        elif getattr(route, "methods", None):
            yield from ((m, prefix + route.path) for m in route.methods - {"HEAD"})
fields = {}
for path, message, methods in handlers.get_endpoints(lambda message: message):
    if hasattr(message, "DESCRIPTOR"):
        for method in methods:
            fields[f"{method} {path}"] = [f.name for f in message.DESCRIPTOR.fields]
print("ROUTES" + json.dumps({
    "Flask": sorted(stock), "FastAPI": sorted(set(walk(app.routes))), "auth app": sorted(rules() - stock),
    "fields": fields,
}))
"""


@dataclass(frozen=True, order=True)
class Route:
    framework: str
    method: str
    rule: str

    @property
    def twin(self) -> str:
        """Two addresses of one operation get objects of their own each, so that both answer the same."""
        return "ajax-api" if self.rule.startswith("/ajax-api") else "api"

    @property
    def operation(self) -> str:
        match = re.fullmatch(r"/(?:ajax-)?api/\d\.\d/?(?:mlflow/)?(.*)", self.rule)
        return match[1] if match else self.rule.lstrip("/")

    @property
    def order(self) -> tuple[int, str, str, str]:
        """Reads first, then changes, then deletions from the inside out."""
        return (self._weight(), self.operation, self.method, self.rule)

    def _weight(self) -> int:
        operation = self.operation
        deletes = self.method == "DELETE" or "delete" in operation
        inner = ("tag", "alias", "remove", "detach", "unassign", "revoke", "binding", "records", "permissions")
        outer = ("runs/delete", "registered-models/delete", "gateway/", "roles/delete", "users/delete", "webhooks")
        if operation == "experiments/delete":
            return 6
        if operation in ("experiments/restore", "demo/delete"):
            return 7
        if operation == "runs/restore":
            return 5
        if self.method == "GET":
            return 0
        if any(word in operation for word in ("remove", "detach", "unassign", "revoke")):
            return 2
        if not deletes:
            return 1
        if any(word in operation for word in inner):
            return 2
        if operation.startswith(outer) or operation in ("mcp-servers/{name:path}", "datasets/<dataset_id>"):
            return 4
        return 3


@dataclass(frozen=True)
class Routes:
    """What this MLflow serves, and the fields of the messages that it parses."""

    routes: tuple[Route, ...]
    fields: dict[tuple[str, str], tuple[str, ...]]
    version: str

    @classmethod
    def of(cls, server: Server) -> Routes:
        """Asks the MLflow that ``server`` runs. Raises ``AssertionError`` if a framework has none."""
        from mlflow.version import VERSION

        ini = server.folder / "list.ini"
        database = server.folder / "list.db"
        ini.write_text(
            f"[mlflow]\ndefault_permission=READ\ndatabase_uri=sqlite:///{database}\nadmin_username=a\n"
            "admin_password=a-password-for-nothing\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", LIST],
            env={**server.variables(), "MLFLOW_AUTH_CONFIG_PATH": str(ini), "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 20},
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("ROUTES"))[6:])
        routes = [Route(name, method, rule) for name in FRAMEWORKS for method, rule in found[name]]
        counts = Counter(route.framework for route in routes)
        assert all(counts[name] > 0 for name in FRAMEWORKS), counts
        fields = {tuple(key.split(" ", 1)): tuple(names) for key, names in found["fields"].items()}
        return cls(tuple(sorted(routes)), fields, VERSION)  # type: ignore[arg-type]

    def counts(self) -> str:
        counts = Counter(route.framework for route in self.routes)
        return ", ".join(f"{counts[name]} {name}" for name in FRAMEWORKS)


def ask(server: Server, session: requests.Session, route: Route, routes: Routes, person: str, objects: Objects) -> int:
    """The status of one route for one person."""
    values = parameters(route, routes.fields.get((route.method, route.rule)), objects)
    more: dict[str, Any] = {}
    sent = headers(person)
    if route.method == "GET":
        more["params"] = values
    elif "upload-artifact" in route.rule:
        more.update(params=values, data=b"hello")
    elif route.method == "PUT" and "artifacts/" in route.rule:
        more["data"] = io.BytesIO(b"hello")
    elif route.rule == "/v1/traces":
        sent = {
            **sent,
            "Content-Type": "application/x-protobuf",
            "X-MLflow-Experiment-Id": objects.ids["experiment_id"],
        }
        more["data"] = b""
    elif route.method == "DELETE" and ("mcp-servers" in route.rule or "artifacts/" in route.rule):
        pass
    else:
        more["json"] = values
    for last in (False, True):
        try:
            return session.request(
                route.method,
                server.url + address(route, objects),
                headers=sent,
                timeout=120,
                allow_redirects=False,
                **more,
            ).status_code
        except requests.ConnectionError:
            # After an unexpected error, MLflow closes the connection that the next request would use.
            if last:
                raise
    raise AssertionError


Column = dict[Route, int]


def column(server: Server, routes: Routes, person: str) -> Column:
    """What every route answers to one person."""
    sets = {twin: Objects(server, f"{person}-{twin}").make() for twin in ("api", "ajax-api")}
    found: Column = {}
    with requests.Session() as session:
        for route in sorted(routes.routes, key=lambda route: route.order):
            found[route] = ask(server, session, route, routes, person, sets[route.twin])
    return found


Table = dict[tuple[str, str], Column]


def lines(routes: Routes, table: Table) -> Iterator[str]:
    """The table as a file that people read and compare."""
    yield f"# MLflow {routes.version}: {routes.counts()}."
    yield "# The status of each method and path for each person, who are described in routes_table.py."
    yield "# Default permission READ on the left, NO_PERMISSIONS on the right."
    yield "# Written by: OIDC_GATE_WRITE_ROUTES=1 pytest -m whole tests/test_routes.py"
    width = max(len(route.rule) for route in routes.routes)
    head = " ".join(f"{person:>8}" for person in PEOPLE)
    for framework in FRAMEWORKS:
        yield ""
        yield f"## {framework}"
        yield f"{'':<7}{'':<{width}} {head}  | {head}"
        for route in routes.routes:
            if route.framework == framework:
                halves = [
                    " ".join(f"{table[person, permission][route]:>8}" for person in PEOPLE)
                    for permission in PERMISSIONS
                ]
                yield f"{route.method:<7}{route.rule:<{width}} {halves[0]}  | {halves[1]}"


def parse(path: Path) -> tuple[str, dict[Route, dict[tuple[str, str], int]]]:
    """The first line, and the statuses of each route."""
    found: dict[Route, dict[tuple[str, str], int]] = {}
    framework = ""
    keys = [(person, permission) for permission in PERMISSIONS for person in PEOPLE]
    text = path.read_text(encoding="utf-8").splitlines()
    for line in text:
        if line.startswith("## "):
            framework = line[3:]
        elif re.match(r"[A-Z]+ ", line):
            method, rule, *statuses = line.replace("|", " ").split()
            found[Route(framework, method, rule)] = dict(zip(keys, map(int, statuses), strict=True))
    return text[0], found
