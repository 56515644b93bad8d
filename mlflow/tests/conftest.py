"""Fixtures: a real MLflow behind the package, and assertions as the gate mints them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from routes_table import ENVIRONMENT
from support import JOB_TOKEN, KEY, Server, fill

pytest_plugins = ["client_fixtures"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One MLflow for all tests that only need any. Default permission: READ.

    Each start of an MLflow takes some fifteen seconds of a processor, so a test that only asks, or only changes what
    has a name of its own, asks this one or ``closed``.
    """
    environment = {
        "MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_GATEWAY_API_BASE_ALLOWED_SCHEMES": "http",
        "_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN": JOB_TOKEN,
    }
    with Server(tmp_path_factory.mktemp("mlflow"), keys=KEY, environment=environment) as running:
        yield running


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    """``closed``, and what ``fill`` made in it."""
    folder = tmp_path_factory.mktemp("closed")
    with Server(folder, permission="NO_PERMISSIONS", environment={**ENVIRONMENT, "HOME": str(folder)}) as running:
        yield running, fill(running)


@pytest.fixture(scope="session")
def closed(filled: tuple[Server, dict[str, str]]) -> Server:
    """An MLflow in which users may do nothing that they were not granted. It has what ``fill`` makes."""
    return filled[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
