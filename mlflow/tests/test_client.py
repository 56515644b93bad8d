"""Tokens for MLflow's client: got, kept, renewed, and sent to one server only."""

from __future__ import annotations

import importlib.metadata
import io
import json
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from client_fixtures import a_provider, signed_in
from fake_provider import FakeProvider, FakeTracking, renew_in_a_process
from oidc_gate_mlflow.client import auth as plugin
from oidc_gate_mlflow.client.cache import Cache, Stored
from oidc_gate_mlflow.client.config import Config, origin, secure
from oidc_gate_mlflow.client.errors import LoginNeeded, OAuthError, ProviderAway, TokenError
from oidc_gate_mlflow.client.tokens import Tokens

pytestmark = pytest.mark.usefixtures("environment")


def expire(tokens: Tokens) -> None:
    there = tokens.cache.read()
    assert there is not None
    tokens.cache.write(Stored(**{**vars(there), "expires_at": time.time() - 1}))


def test_a_request_gets_the_token(idp: FakeProvider, tracking: FakeTracking) -> None:
    signed_in(idp, tracking.url)
    assert requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10).status_code == 200
    assert idp.grants == {}


def test_a_token_is_renewed_before_it_expires(idp: FakeProvider, tracking: FakeTracking) -> None:
    idp.lifetime = 2.0
    tokens = signed_in(idp, tracking.url)
    first = tokens.get()
    time.sleep(1.2)
    assert tokens.get() != first
    assert idp.grants == {"refresh_token": 1}


def test_a_refused_token_is_renewed_once_and_the_request_repeated(idp: FakeProvider, tracking: FakeTracking) -> None:
    tokens = signed_in(idp, tracking.url)
    tracking.refused.add(tokens.get())
    body = os.urandom(5_000_000)
    answer = requests.put(tracking.url, data=io.BytesIO(body), auth=plugin.OidcGateAuth(), timeout=10)
    assert answer.status_code == 200
    assert [seen[3] == body for seen in tracking.seen] == [True, True]
    assert idp.grants == {"refresh_token": 1}


def test_a_server_that_refuses_everything_is_asked_twice(idp: FakeProvider, tracking: FakeTracking) -> None:
    signed_in(idp, tracking.url)
    idp.tokens = set()
    idp.override = lambda path, form: (
        (200, {"access_token": "no", "token_type": "Bearer", "expires_in": 60}) if (path == "/token") else None
    )
    assert requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10).status_code == 401
    assert len(tracking.seen) == 2


def test_a_stream_that_cannot_be_repeated_is_not(idp: FakeProvider, tracking: FakeTracking) -> None:
    tokens = signed_in(idp, tracking.url)
    tracking.refused.add(tokens.get())
    answer = requests.put(tracking.url, data=iter([b"a", b"b"]), auth=plugin.OidcGateAuth(), timeout=10)
    assert answer.status_code == 401
    assert len(tracking.seen) == 1


def test_many_processes_and_threads_renew_once(idp: FakeProvider, tracking: FakeTracking) -> None:
    tokens = signed_in(idp, tracking.url)
    expire(tokens)
    idp.slow = 0.2
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=renew_in_a_process, args=(queue, origin(tracking.url))) for _ in range(3)]
    # The cache is found by the origin, so both spellings of the address have to lead to the same file.
    tokens = Tokens(Config.from_environment(), origin(tracking.url))
    for process in processes:
        process.start()
    found = {queue.get(timeout=60) for _ in processes}
    threads = [threading.Thread(target=lambda: found.add(tokens.get())) for _ in range(10)]
    for thread in threads:
        thread.start()
    for waiting in (*threads, *processes):
        waiting.join()
    assert len(found) == 1
    assert idp.grants == {"refresh_token": 1}


def test_a_child_of_a_fork_is_not_stuck_in_a_lock_of_its_parent(idp: FakeProvider, tracking: FakeTracking) -> None:
    signed_in(idp, origin(tracking.url))
    tokens = plugin.tokens_for(tracking.url)
    with tokens._mutex:
        child = os.fork()
        if child == 0:
            os._exit(0 if tokens.get() else 1)
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def test_a_session_that_has_ended_asks_for_a_login(idp: FakeProvider, tracking: FakeTracking) -> None:
    tokens = signed_in(idp, tracking.url)
    expire(tokens)
    idp.refresh.clear()
    for _ in range(3):
        with pytest.raises(LoginNeeded, match="oidc_gate_mlflow login"):
            tokens.get()
    assert idp.grants["refresh_token"] == 1


def test_a_provider_that_is_away_is_waited_for(idp: FakeProvider, tracking: FakeTracking) -> None:
    tokens = signed_in(idp, tracking.url)
    expire(tokens)
    idp.away = True
    threading.Timer(1, lambda: setattr(idp, "away", False)).start()
    assert tokens.get()
    assert idp.grants == {"refresh_token": 1}


def test_a_provider_that_stays_away_is_given_up(idp: FakeProvider, tracking: FakeTracking) -> None:
    tokens = signed_in(idp, tracking.url)
    expire(tokens)
    idp.away = True
    with pytest.raises(ProviderAway, match="3 seconds"):
        tokens.get()


def test_a_token_that_is_still_good_is_used_while_the_provider_is_away(
    idp: FakeProvider, tracking: FakeTracking
) -> None:
    tokens = signed_in(idp, tracking.url)
    there = tokens.cache.read()
    assert there is not None
    tokens.cache.write(Stored(**{**vars(there), "expires_at": time.time() + 5}))
    idp.away = True
    assert tokens.get() == there.access_token


def test_a_job_gets_its_token_with_a_secret(
    idp: FakeProvider, tracking: FakeTracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIDC_GATE_CLIENT_ID", "trainer")
    monkeypatch.setenv("OIDC_GATE_CLIENT_SECRET", "s3cret:/")
    for _ in range(3):
        assert requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10).status_code == 200
    assert idp.grants == {"client_credentials": 1}


def test_a_changed_environment_counts_from_the_next_request(
    idp: FakeProvider, tracking: FakeTracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LoginNeeded):
        requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10)
    monkeypatch.setenv("OIDC_GATE_CLIENT_SECRET", "s3cret:/")
    assert requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10).status_code == 200


def test_a_wrong_secret_is_said_once_and_not_printed(
    idp: FakeProvider, tracking: FakeTracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OIDC_GATE_CLIENT_SECRET", "wrong-one")
    with pytest.raises(OAuthError, match="invalid_client") as caught:
        requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10)
    assert "wrong-one" not in str(caught.value)
    assert "wrong-one" not in repr(Config.from_environment())
    assert idp.grants == {"client_credentials": 1}


def test_a_token_file_is_read_for_every_request(
    idp: FakeProvider, tracking: FakeTracking, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "token"
    monkeypatch.setenv("OIDC_GATE_TOKEN_FILE", str(path))
    for _ in range(2):
        path.write_text(idp.grant(refreshable=False)["access_token"] + "\n")
        assert requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10).status_code == 200
    assert tracking.seen[0][2] != tracking.seen[1][2]
    tracking.refused.add(path.read_text().strip())
    with pytest.raises(TokenError, match="nobody has renewed it"):
        requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10)


@pytest.mark.parametrize("content", ["", "two tokens", "a\nb", None])
def test_a_token_file_without_one_token_is_named(
    tracking: FakeTracking, folder: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    path = folder / "token"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("OIDC_GATE_TOKEN_FILE", str(path))
    with pytest.raises(TokenError, match=str(path)):
        requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10)


@pytest.mark.parametrize("kind", ["person", "secret", "file"])
def test_no_other_server_gets_the_token(
    idp: FakeProvider, tracking: FakeTracking, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "person":
        signed_in(idp, origin(tracking.url))
    elif kind == "secret":
        monkeypatch.setenv("OIDC_GATE_CLIENT_SECRET", "s3cret:/")
    else:
        (folder / "token").write_text("secret-token")
        monkeypatch.setenv("OIDC_GATE_TOKEN_FILE", str(folder / "token"))
    other = FakeTracking(idp)
    try:
        with pytest.raises(TokenError, match=r"login|not sent"):
            requests.get(other.url, auth=plugin.OidcGateAuth(), timeout=10)
        assert other.seen == []
        assert kind == "file" or requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10).ok
    finally:
        other.close()


def test_a_redirect_to_another_server_takes_no_token_along(idp: FakeProvider, tracking: FakeTracking) -> None:
    signed_in(idp, origin(tracking.url))
    other = FakeTracking(idp)
    tracking.redirect = other.url.replace("127.0.0.1", "localhost") + "/"
    try:
        answer = requests.get(tracking.url, auth=plugin.OidcGateAuth(), timeout=10)
        assert answer.status_code == 401
        assert [seen[2] for seen in other.seen] == [""]
    finally:
        other.close()


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://mlflow.example/", "https://mlflow.example:443"),
        ("HTTPS://MLflow.example/prefix", "https://mlflow.example:443"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("https://user@evil.example:444/", "https://evil.example:444"),
    ],
)
def test_servers_are_told_apart_by_origin(url: str, same: str) -> None:
    assert origin(url) == same


@pytest.mark.parametrize("url", ["sqlite:///x.db", "https://", "https://host:port", "databricks"])
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(TokenError):
        origin(url)


def test_a_token_does_not_travel_in_the_clear() -> None:
    for good in ("https://idp.example", "http://localhost:8080", "http://127.0.0.2", "http://[::1]:1"):
        secure(good, "it", insecure_http=False)
    for bad in ("http://idp.example", "http://localhost.evil.example", "http://10.0.0.1", "ftp://localhost"):
        with pytest.raises(TokenError):
            secure(bad, "it", insecure_http=False)
    secure("http://idp", "it", insecure_http=True)


def test_an_issuer_that_says_it_is_another_is_refused(idp: FakeProvider) -> None:
    metadata = {**idp.metadata(), "issuer": "https://evil.example"}
    idp.override = lambda path, form: (200, metadata) if "well-known" in path else None
    with pytest.raises(TokenError, match="evil"):
        a_provider(idp).metadata()


def test_an_endpoint_without_tls_is_refused(idp: FakeProvider) -> None:
    metadata = {**idp.metadata(), "token_endpoint": "http://evil.example/token"}
    idp.override = lambda path, form: (200, metadata) if "well-known" in path else None
    with pytest.raises(TokenError, match="not https"):
        a_provider(idp).grant("refresh_token", refresh_token="x")


def test_the_cache_is_for_its_owner(idp: FakeProvider, tracking: FakeTracking) -> None:
    cache = signed_in(idp, tracking.url).cache
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_cache_that_others_may_read_is_refused(idp: FakeProvider, tracking: FakeTracking, mode: int) -> None:
    tokens = signed_in(idp, tracking.url)
    tokens.cache.path.chmod(mode)
    with pytest.raises(TokenError, match="others can't read"):
        tokens.get()
    assert idp.grants == {}


def test_a_cache_that_is_a_link_or_in_an_open_folder_is_refused(folder: Path) -> None:
    cache = Cache(folder / "c", "https://m", "person")
    with cache.locked():
        pass
    (folder / "elsewhere").write_text("{}")
    cache.path.symlink_to(folder / "elsewhere")
    with pytest.raises(TokenError):
        cache.read()
    cache.folder.chmod(0o777)
    with pytest.raises(TokenError, match="must not write"), cache.locked():
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "server": "x"}', "null"])
def test_a_cache_that_is_not_understood_is_as_none(folder: Path, text: str) -> None:
    cache = Cache(folder / "c", "https://m", "person")
    with cache.locked():
        cache.path.write_text(text)
        cache.path.chmod(0o600)
    assert cache.read() is None


def test_nothing_that_is_printed_has_a_token(idp: FakeProvider, tracking: FakeTracking) -> None:
    there = signed_in(idp, tracking.url).cache.read()
    assert there is not None
    assert there.access_token not in repr(there)
    assert str(there.refresh_token) not in repr(there)


def test_exporters_of_opentelemetry_find_a_session_that_renews_its_token(
    idp: FakeProvider, tracking: FakeTracking
) -> None:
    tokens = signed_in(idp, origin(tracking.url))
    [found] = importlib.metadata.entry_points(group="opentelemetry_otlp_credential_provider", name="oidc-gate")
    session = found.load()()
    # The exporter accepts nothing else.
    assert isinstance(session, requests.Session)
    for _ in range(2):
        assert session.post(tracking.url + "/v1/traces", data=b"spans", timeout=10).status_code == 200
        tracking.refused.add(tokens.get())
    assert idp.grants == {"refresh_token": 1}


def test_mlflow_finds_the_plugin_and_shows_its_message(tracking: FakeTracking, folder: Path) -> None:
    code = "import mlflow; mlflow.MlflowClient().get_experiment('1')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MLFLOW_TRACKING_AUTH": "oidc-gate", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "python -m oidc_gate_mlflow login" in done.stderr
    assert tracking.seen == []


def test_mlflows_client_logs_with_the_token(idp: FakeProvider, tracking: FakeTracking) -> None:
    signed_in(idp, origin(tracking.url))
    code = "import mlflow; mlflow.MlflowClient().log_metric('r', 'a', 1.0)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MLFLOW_TRACKING_AUTH": "oidc-gate"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(tracking.seen[-1][3])["key"] == "a"
    assert tracking.seen[-1][2].startswith("Bearer h.")
