"""A small identity provider, and a tracking server that believes it. Both misbehave when they are told to."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from oidc_gate_mlflow.client.config import Config
from oidc_gate_mlflow.client.tokens import Tokens


def renew_in_a_process(queue: Any, server: str) -> None:
    """Here, because a process that is spawned for it imports this module, and no MLflow."""
    queue.put(Tokens(Config.from_environment(), server).get())


class Http:
    """A server on a free port of loopback, in a thread."""

    def __init__(self) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                status, headers, content = outer.answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = handle_any  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError


class FakeProvider(Http):
    """Refresh tokens rotate, and one that is used twice ends the session."""

    def __init__(self) -> None:
        self.lifetime = 60.0
        self.grants: Counter[str] = Counter()
        self.forms: list[dict[str, str]] = []
        self.tokens: set[str] = set()
        self.refresh: set[str] = set()
        self.spent: set[str] = set()
        self.codes: dict[str, tuple[str, str]] = {}
        self.devices: dict[str, list[str]] = {}
        self.challenges: dict[str, str] = {}
        self.revoked: list[str] = []
        self.away = False
        self.slow = 0.0
        self.override: Callable[[str, dict[str, str]], tuple[int, Any] | None] = lambda path, form: None
        self.authorization: dict[str, str] = {}
        self._lock = threading.Lock()
        super().__init__()

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/auth",
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
            "revocation_endpoint": f"{self.url}/revoke",
        }

    def grant(self, *, refreshable: bool) -> dict[str, Any]:
        claims = base64.urlsafe_b64encode(json.dumps({"preferred_username": "alice"}).encode()).decode().rstrip("=")
        token = f"h.{claims}.{secrets.token_hex(8)}"
        self.tokens.add(token)
        granted: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        if refreshable:
            granted["refresh_token"] = f"refresh-{secrets.token_hex(8)}"
            self.refresh.add(granted["refresh_token"])
        return granted

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.away:
            return 503, {}, b"away"
        time.sleep(self.slow)
        parts = urlsplit(path)
        form = {name: values[0] for name, values in parse_qs(body.decode() or parts.query).items()}
        with self._lock:
            return self._answer(parts.path, form, headers)

    def _answer(self, path: str, form: dict[str, str], headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if (said := self.override(path, form)) is not None:
            return said[0], {}, json.dumps(said[1]).encode()
        if path == "/.well-known/openid-configuration":
            return self._json(200, self.metadata())
        if path == "/auth":
            code = secrets.token_hex(8)
            self.authorization = form
            self.codes[code] = (form["code_challenge"], form["redirect_uri"])
            place = f"{form['redirect_uri']}?code={code}&state={form['state']}&iss={self.url}"
            return 302, {"Location": place}, b""
        if path == "/device":
            code = secrets.token_hex(8)
            if form.get("code_challenge_method") != "S256":
                # Keycloak's answer, if the client must use PKCE.
                said = "Missing parameter: code_challenge_method"
                return self._json(400, {"error": "invalid_request", "error_description": said})
            self.devices[code] = ["authorization_pending", "slow_down"]
            self.challenges[code] = form["code_challenge"]
            return self._json(
                200,
                {
                    "device_code": code,
                    "user_code": "ABCD-EFGH",
                    "verification_uri": f"{self.url}/activate",
                    "expires_in": 600,
                    "interval": 1,
                },
            )
        if path == "/revoke":
            self.revoked.append(form["token"])
            return self._json(200, {})
        if path == "/token":
            self.forms.append({**form, "authorization": headers.get("Authorization", "")})
            return self._token(form, headers)
        return 404, {}, b""

    def _token(self, form: dict[str, str], headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        kind = form["grant_type"].rpartition(":")[2]
        self.grants[kind] += 1
        if kind == "refresh_token":
            token = form["refresh_token"]
            if token in self.spent or token not in self.refresh:
                self.refresh.clear()
                return self._json(400, {"error": "invalid_grant", "error_description": "Session not active"})
            self.spent.add(token)
            return self._json(200, self.grant(refreshable=True))
        if kind == "authorization_code":
            challenge, redirect = self.codes.pop(form["code"])
            if challenge_of(form["code_verifier"]) != challenge or redirect != form["redirect_uri"]:
                return self._json(400, {"error": "invalid_grant"})
            return self._json(200, self.grant(refreshable=True))
        if kind == "device_code":
            waiting = self.devices[form["device_code"]]
            if waiting:
                return self._json(400, {"error": waiting.pop(0)})
            if challenge_of(form["code_verifier"]) != self.challenges[form["device_code"]]:
                return self._json(400, {"error": "invalid_grant"})
            return self._json(200, self.grant(refreshable=True))
        if kind == "client_credentials":
            basic = base64.b64decode(headers.get("Authorization", "").partition(" ")[2] or b"Og==").decode()
            if unquote(basic.partition(":")[2]) != "s3cret:/":
                return self._json(401, {"error": "invalid_client"})
            return self._json(200, self.grant(refreshable=False))
        return self._json(400, {"error": "unsupported_grant_type"})

    @staticmethod
    def _json(status: int, content: Any) -> tuple[int, dict[str, str], bytes]:
        return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


class FakeTracking(Http):
    """Answers 401 to every token that the provider did not give, or that is in ``refused``."""

    def __init__(self, provider: FakeProvider) -> None:
        self.provider = provider
        self.refused: set[str] = set()
        self.seen: list[tuple[str, str, str, bytes]] = []
        self.redirect: str | None = None
        super().__init__()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        authorization = headers.get("Authorization", "")
        self.seen.append((method, path, authorization, body))
        if self.redirect is not None:
            return 307, {"Location": self.redirect}, b""
        token = authorization.removeprefix("Bearer ")
        if token not in self.provider.tokens or token in self.refused:
            said = json.dumps({"error_code": "UNAUTHENTICATED", "message": "no"}).encode()
            return 401, {"Content-Type": "application/json"}, said
        return 200, {"Content-Type": "application/json"}, b"{}"
