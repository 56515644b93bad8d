"""Every route of the running MLflow, asked as everybody, and compared with the committed table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import routes_table
from routes_table import PEOPLE, PERMISSIONS, Route, Routes, Table
from support import Server

pytestmark = pytest.mark.server

PUBLIC = ("/health", "/version", "/static-files/", "server-info")
CLOSED = ("users/create", "users/update-password", "users/update-admin", "/signup")
Known = dict[Route, dict[tuple[str, str], int]]


def table_file(version: str) -> Path:
    return Path(__file__).with_name(f"routes-{version}.txt")


def start(folder: Path, permission: str) -> Server:
    environment = {**routes_table.ENVIRONMENT, "HOME": str(folder)}
    return Server(folder, permission=permission, environment=environment)


@pytest.fixture(scope="module")
def routes(closed: Server) -> Routes:
    return Routes.of(closed)


@pytest.fixture(scope="module")
def known(routes: Routes) -> Known:
    path = table_file(routes.version)
    if not path.exists():
        pytest.skip(f"there is no table for MLflow {routes.version}; OIDC_GATE_WRITE_ROUTES=1 pytest -m whole makes it")
    first, found = routes_table.parse(path)
    assert routes.counts() in first
    return found


def test_there_is_no_route_that_the_table_lacks(routes: Routes, known: Known) -> None:
    assert set(routes.routes) == set(known)


@pytest.mark.parametrize("person", ["user", "nobody"])
def test_a_stranger_gets_what_the_table_says(closed: Server, routes: Routes, known: Known, person: str) -> None:
    """The quick part: the two who should get nothing, where nothing is open."""
    found = routes_table.column(closed, routes, person)
    differences = {
        route: (status, known[route][person, "NO_PERMISSIONS"])
        for route, status in found.items()
        if status != known[route][person, "NO_PERMISSIONS"]
    }
    assert differences == {}


@pytest.mark.whole
def test_everybody_gets_what_the_table_says(
    tmp_path_factory: pytest.TempPathFactory, routes: Routes, request: pytest.FixtureRequest
) -> None:
    """The whole part. With OIDC_GATE_WRITE_ROUTES=1 it writes the table."""
    table: Table = {}
    for permission in PERMISSIONS:
        with start(tmp_path_factory.mktemp(permission.lower()), permission) as server:
            for person in PEOPLE:
                table[person, permission] = routes_table.column(server, routes, person)
    text = "\n".join(routes_table.lines(routes, table)) + "\n"
    path = table_file(routes.version)
    if os.environ.get("OIDC_GATE_WRITE_ROUTES"):
        path.write_text(text, encoding="utf-8")
    assert text.splitlines() == path.read_text(encoding="utf-8").splitlines()


def statuses(known: Known, person: str) -> dict[Route, set[int]]:
    return {route: {found[person, permission] for permission in PERMISSIONS} for route, found in known.items()}


def test_without_an_assertion_only_public_routes_answer(known: Known) -> None:
    open_routes = {route.rule for route, found in statuses(known, "nobody").items() if found != {401}}
    assert {rule for rule in open_routes if not any(public in rule for public in PUBLIC)} == set()


def test_an_outsider_is_no_more_than_a_user(known: Known) -> None:
    assert statuses(known, "outsider") == statuses(known, "user")


def test_an_administrator_is_refused_nothing_but_local_accounts(known: Known) -> None:
    refused = {route.rule for route, found in statuses(known, "admin").items() if found & {401, 403}}
    assert {rule for rule in refused if not any(closed in rule for closed in CLOSED)} == set()
    assert refused


def test_a_reader_changes_nothing_that_an_editor_may_not(known: Known) -> None:
    for route, found in known.items():
        for permission in PERMISSIONS:
            if found["reader", permission] < 300:
                assert found["editor", permission] < 300, route
