"""Signing in and out: with the browser of this machine, with a code, and by the commands."""

from __future__ import annotations

import io
import threading

import pytest
import requests

from client_fixtures import a_provider, follow, signed_in
from fake_provider import FakeProvider, FakeTracking
from oidc_gate_mlflow import cli
from oidc_gate_mlflow.client import login as sign_in
from oidc_gate_mlflow.client.config import origin
from oidc_gate_mlflow.client.errors import TokenError

pytestmark = pytest.mark.usefixtures("environment")


def test_a_browser_login_uses_pkce_and_loopback(idp: FakeProvider) -> None:
    grant = sign_in.with_browser(a_provider(idp), "openid", out=io.StringIO(), open_browser=follow)
    assert grant.refresh_token is not None
    assert idp.authorization["code_challenge_method"] == "S256"
    assert idp.authorization["redirect_uri"].startswith("http://127.0.0.1:")
    assert "code_verifier" not in idp.authorization


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("error=access_denied&state={state}", "access_denied"),
        ("code=x&state={state}&iss=https://evil.example", "another identity provider"),
        ("state={state}", "no code"),
    ],
)
def test_a_wrong_answer_to_a_browser_login_is_refused(idp: FakeProvider, query: str, complaint: str) -> None:
    def browser(address: str) -> bool:
        parts = dict(pair.split("=") for pair in address.partition("?")[2].split("&"))
        place = requests.utils.unquote(parts["redirect_uri"])
        threading.Thread(
            target=lambda: requests.get(f"{place}?{query.format(state=parts['state'])}", timeout=10), daemon=True
        ).start()
        return True

    with pytest.raises(TokenError, match=complaint):
        sign_in.with_browser(a_provider(idp), "openid", out=io.StringIO(), open_browser=browser)


def test_an_answer_with_another_state_does_not_end_the_login(idp: FakeProvider) -> None:
    statuses: list[int] = []

    def browser(address: str) -> bool:
        parts = dict(pair.split("=") for pair in address.partition("?")[2].split("&"))
        place = requests.utils.unquote(parts["redirect_uri"])
        for query in ("code=x&state=guess", "code=x", "code=x&state=%C3%A9"):
            statuses.append(requests.get(f"{place}?{query}", timeout=10).status_code)
        return follow(address)

    assert sign_in.with_browser(a_provider(idp), "openid", out=io.StringIO(), open_browser=browser).access_token
    assert statuses == [400, 400, 400]


def test_nobody_signs_in_in_time(idp: FakeProvider) -> None:
    with pytest.raises(TokenError, match="in time"):
        sign_in.with_browser(
            a_provider(idp), "openid", out=io.StringIO(), open_browser=lambda address: False, seconds=0.1
        )


def test_a_device_login_waits_as_it_is_told(idp: FakeProvider) -> None:
    pauses: list[float] = []
    out = io.StringIO()
    assert sign_in.with_device(a_provider(idp), "openid", out=out, sleep=pauses.append).access_token
    assert pauses == [1, 1, 6]
    assert "ABCD-EFGH" in out.getvalue()


@pytest.mark.parametrize(("error", "complaint"), [("access_denied", "refused"), ("expired_token", "in time")])
def test_a_device_login_that_fails_says_why(idp: FakeProvider, error: str, complaint: str) -> None:
    idp.override = lambda path, form: (400, {"error": error}) if path == "/token" else None
    with pytest.raises(TokenError, match=complaint):
        sign_in.with_device(a_provider(idp), "openid", out=io.StringIO(), sleep=lambda pause: None)


def test_the_commands(
    idp: FakeProvider, tracking: FakeTracking, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sign_in.with_browser, "__kwdefaults__", {**sign_in.with_browser.__kwdefaults__, "open_browser": follow}
    )
    assert cli.main(["status"]) == 1
    assert cli.main(["token"]) == 1
    assert "login --server" in capsys.readouterr().err
    assert cli.main(["login", "--browser", "--offline"]) == 0
    assert "signed in to" in capsys.readouterr().out
    assert idp.authorization["scope"] == "openid offline_access"
    assert cli.main(["status"]) == 0
    said = capsys.readouterr().out
    assert "alice" in said
    assert "outlives the session" in said
    assert cli.main(["token"]) == 0
    token = capsys.readouterr().out.strip()
    assert token in idp.tokens
    assert token not in said
    assert cli.main(["logout"]) == 0
    assert idp.revoked
    assert cli.main(["status"]) == 1


def test_a_logout_without_the_provider_removes_the_tokens_all_the_same(
    idp: FakeProvider, tracking: FakeTracking, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = signed_in(idp, origin(tracking.url)).cache
    idp.away = True
    assert cli.main(["logout"]) == 1
    assert "not available" in capsys.readouterr().err
    assert not cache.path.exists()
