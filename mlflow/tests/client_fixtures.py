"""What the tests of the client share: a provider, a tracking server, and a person who has signed in."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from fake_provider import FakeProvider, FakeTracking
from oidc_gate_mlflow.client import auth as plugin
from oidc_gate_mlflow.client import login as sign_in
from oidc_gate_mlflow.client.config import Config
from oidc_gate_mlflow.client.oauth import Provider
from oidc_gate_mlflow.client.tokens import Tokens, stored


@pytest.fixture
def idp() -> Iterator[FakeProvider]:
    provider = FakeProvider()
    yield provider
    provider.close()


@pytest.fixture
def tracking(idp: FakeProvider) -> Iterator[FakeTracking]:
    server = FakeTracking(idp)
    yield server
    server.close()


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, folder: Path, idp: FakeProvider, tracking: FakeTracking
) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("MLFLOW", "OIDC")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OIDC_GATE_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setenv("OIDC_GATE_ISSUER", idp.url)
    monkeypatch.setenv("OIDC_GATE_PATIENCE", "3")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.url)
    plugin._tokens.clear()
    yield
    plugin._tokens.clear()


def a_provider(idp: FakeProvider) -> Provider:
    return Provider(idp.url, "mlflow-cli", None, insecure_http=False)


def signed_in(idp: FakeProvider, server: str) -> Tokens:
    """As after ``login``."""
    tokens = Tokens(Config.from_environment(), server)
    grant = sign_in.with_browser(a_provider(idp), "openid", out=io.StringIO(), open_browser=follow)
    tokens.cache.write(stored(grant, server, a_provider(idp), "openid", time.time()))
    idp.grants.clear()
    return tokens


def follow(address: str) -> bool:
    """A browser in which somebody is signed in already."""
    threading.Thread(target=lambda: requests.get(address, timeout=10), daemon=True).start()
    return True
