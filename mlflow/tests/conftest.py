"""Fixtures: a real MLflow behind the package, and assertions as the gate mints them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import KEY, Server

pytest_plugins = ["client_fixtures"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One MLflow for all tests that only need any. Default permission: READ."""
    with Server(tmp_path_factory.mktemp("mlflow"), keys=KEY) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
