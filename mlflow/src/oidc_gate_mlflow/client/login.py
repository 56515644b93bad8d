"""Signing a person in: the browser of this machine (RFC 8252), or of another one (RFC 8628)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import http.server
import os
import secrets
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from typing import TextIO
from urllib.parse import parse_qs, urlencode, urlsplit

from oidc_gate_mlflow.client.errors import OAuthError, ProviderAway, TokenError
from oidc_gate_mlflow.client.oauth import Grant, Provider

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
BROWSER_SECONDS = 300
CALLBACK = "/callback"

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font-family:sans-serif;margin:4em auto;max-width:32em"><h1>{title}</h1><p>{text}</p></body></html>"""


def with_device(
    provider: Provider,
    scope: str,
    *,
    out: TextIO = sys.stderr,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Grant:
    """Prints an address and a code, and waits until somebody has signed in there. Raises ``TokenError``."""
    # RFC 8628 has no PKCE. Keycloak asks for it where the client must use it; others ignore it (RFC 6749 3.2).
    verifier, pkce = _pkce()
    answer = provider.post("device_authorization_endpoint", {"scope": scope, **pkce})
    try:
        device_code, user_code = str(answer["device_code"]), str(answer["user_code"])
        address = str(answer["verification_uri"])
        limit = clock() + float(answer["expires_in"])
    except (KeyError, ValueError, TypeError):
        raise TokenError("the identity provider's answer for devices is not complete") from None
    pause = float(answer.get("interval", 5))
    complete = answer.get("verification_uri_complete")
    print(f"Open {complete or address} in any browser.", file=out)
    print(f"It shows, or asks for, this code: {user_code}", file=out, flush=True)
    while clock() < limit:
        sleep(pause)
        try:
            return provider.grant(DEVICE_GRANT, device_code=device_code, code_verifier=verifier)
        except OAuthError as error:
            if error.code == "slow_down":
                # RFC 8628 3.5
                pause += 5
            elif error.code == "access_denied":
                raise TokenError("the sign-in was refused in the browser") from None
            elif error.code == "expired_token":
                break
            elif error.code != "authorization_pending":
                raise
        except ProviderAway:
            pause = min(pause * 2, 30.0)
    raise TokenError("nobody signed in in time; start again")


def with_browser(
    provider: Provider,
    scope: str,
    *,
    out: TextIO = sys.stderr,
    open_browser: Callable[[str], bool] = webbrowser.open,
    seconds: float = BROWSER_SECONDS,
) -> Grant:
    """Authorization code with PKCE S256. The code comes back to a port of loopback. Raises ``TokenError``."""
    verifier, pkce = _pkce()
    with _Listener(secrets.token_urlsafe(24), provider.issuer) as listener:
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": listener.redirect_uri,
            "scope": scope,
            "state": listener.state,
            **pkce,
        }
        endpoint = provider.endpoint("authorization_endpoint")
        address = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"
        if not open_browser(address):
            print("No browser could be opened. Use --device, or open this address on this machine:", file=out)
        else:
            print("Sign in in the browser. If it did not open, use this address on this machine:", file=out)
        print(address, file=out, flush=True)
        code = listener.wait(seconds)
        return provider.grant(
            "authorization_code", code=code, redirect_uri=listener.redirect_uri, code_verifier=verifier
        )


def has_browser() -> bool:
    """Whether a browser would open where the person is. Over SSH it would open elsewhere, or not at all."""
    if any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY")):
        return False
    if sys.platform.startswith("linux") and not any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def _pkce() -> tuple[str, dict[str, str]]:
    """A verifier, and the parameters that name it (RFC 7636 4.1 to 4.3)."""
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    return verifier, {"code_challenge": challenge, "code_challenge_method": "S256"}


class _Listener:
    """Waits on a free port of loopback for the one redirect that has our ``state``."""

    def __init__(self, state: str, issuer: str) -> None:
        self.state = state
        self._issuer = issuer
        self._done = threading.Event()
        self._code: str | None = None
        self._problem = ""
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, title, text = listener.receive(self.path)
                page = _PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.send_header("Cache-Control", "no-store")
                # The address has the code in it.
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base class names it so)
                """Nothing: the line would have the code in it."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # RFC 8252 7.3 and 8.3: an address, not a name, and any port.
        self.redirect_uri = f"http://127.0.0.1:{self._server.server_address[1]}{CALLBACK}"

    def __enter__(self) -> _Listener:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def receive(self, path: str) -> tuple[int, str, str]:
        """The page for a request to the listener."""
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        if parts.path != CALLBACK:
            return 404, "Not found", "There is nothing here."
        states = query.get("state", [])
        # A page in the same browser can send requests here, but does not know the state.
        if len(states) != 1 or not hmac.compare_digest(states[0].encode(), self.state.encode()):
            return 400, "Not signed in", "This answer does not belong to this sign-in."
        if self._done.is_set():
            return 400, "Not signed in", "This sign-in is already over."
        # RFC 9207 2.4: the answer of another provider would be a mix-up.
        issuers = query.get("iss", [self._issuer])
        if issuers != [self._issuer]:
            self._problem = "the answer is of another identity provider"
        elif "error" in query:
            self._problem = f"the identity provider refused: {query['error'][0]}"
        elif len(query.get("code", [])) == 1:
            self._code = query["code"][0]
        else:
            self._problem = "the identity provider's answer has no code"
        self._done.set()
        if self._code is None:
            return 400, "Not signed in", "The terminal says why."
        return 200, "Signed in", "You can close this page and go back to the terminal."

    def wait(self, seconds: float) -> str:
        if not self._done.wait(seconds):
            raise TokenError("nobody signed in in time; start again")
        if self._code is None:
            raise TokenError(self._problem)
        return self._code
