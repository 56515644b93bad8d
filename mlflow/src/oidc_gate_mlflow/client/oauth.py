"""The identity provider, as a client of OAuth 2.0 sees it (RFC 6749, RFC 7009, RFC 8414, RFC 8628)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import requests

from oidc_gate_mlflow.client.config import secure
from oidc_gate_mlflow.client.errors import OAuthError, ProviderAway, TokenError

TIMEOUT_SECONDS = (5, 15)
DEFAULT_LIFETIME_SECONDS = 60.0
BUSY = (408, 425, 429)


@dataclass(frozen=True)
class Grant:
    """A successful answer of the token endpoint (RFC 6749 5.1)."""

    access_token: str = field(repr=False)
    lifetime: float
    refresh_token: str | None = field(default=None, repr=False)
    scope: str = ""


class Provider:
    """One issuer and one client. Its metadata is read once."""

    def __init__(self, issuer: str, client_id: str, client_secret: str | None, *, insecure_http: bool) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self._secret = client_secret
        self._insecure_http = insecure_http
        self._metadata: dict[str, Any] | None = None

    def metadata(self) -> dict[str, Any]:
        if self._metadata is None:
            url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
            answer = self._ask("GET", url)
            document = _object(answer)
            if answer.status_code != 200 or document is None:
                raise TokenError(f"{url} answered {answer.status_code}; is the issuer right?")
            # OpenID Connect Discovery 4.3: otherwise one provider could pose as another.
            if document.get("issuer") != self.issuer:
                raise TokenError(f"the metadata of {self.issuer!r} are of the issuer {document.get('issuer')!r}")
            self._metadata = document
        return self._metadata

    def endpoint(self, name: str) -> str:
        """Raises ``TokenError`` if the provider has none, or one without TLS."""
        url = self.metadata().get(name)
        if not isinstance(url, str):
            raise TokenError(f"the identity provider has no {name}")
        secure(url, f"the provider's {name}", insecure_http=self._insecure_http)
        return url

    def grant(self, grant_type: str, **form: str) -> Grant:
        answer = self.post("token_endpoint", {"grant_type": grant_type, **form})
        token, kind = answer.get("access_token"), answer.get("token_type")
        if not isinstance(token, str) or not token or str(kind).lower() != "bearer":
            raise TokenError("the identity provider gave no bearer token")
        lifetime = answer.get("expires_in")
        refresh = answer.get("refresh_token")
        return Grant(
            access_token=token,
            lifetime=float(lifetime) if isinstance(lifetime, int | float) else DEFAULT_LIFETIME_SECONDS,
            refresh_token=refresh if isinstance(refresh, str) else None,
            scope=str(answer.get("scope", "")),
        )

    def post(self, endpoint: str, form: dict[str, str]) -> dict[str, Any]:
        """Raises ``OAuthError`` for a refusal, ``ProviderAway`` where trying again may help."""
        answer = self._ask("POST", self.endpoint(endpoint), **self._authenticated(form))
        content = _object(answer)
        if answer.status_code == 200:
            return content if content is not None else {}
        if content is not None and isinstance(content.get("error"), str):
            raise OAuthError(content["error"], str(content.get("error_description", "")))
        raise TokenError(f"the identity provider answered {answer.status_code}")

    def _authenticated(self, form: dict[str, str]) -> dict[str, Any]:
        if self._secret is None:
            return {"data": {**form, "client_id": self.client_id}}
        methods = self.metadata().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if "client_secret_basic" not in methods and "client_secret_post" in methods:
            return {"data": {**form, "client_id": self.client_id, "client_secret": self._secret}}
        # RFC 6749 2.3.1: both are form-encoded before they become user and password.
        return {"data": form, "auth": (quote(self.client_id, safe=""), quote(self._secret, safe=""))}

    def _ask(self, method: str, url: str, **more: Any) -> requests.Response:
        # Without an authentication, requests would take a password from ~/.netrc.
        more.setdefault("auth", _nothing)
        try:
            answer = requests.request(
                method,
                url,
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
                headers={"Accept": "application/json"},
                **more,
            )
        except requests.exceptions.SSLError:
            raise TokenError(f"the certificate of {url} is not valid") from None
        except requests.RequestException as error:
            raise ProviderAway(type(error).__name__) from None
        if answer.status_code >= 500 or answer.status_code in BUSY:
            raise ProviderAway(f"status {answer.status_code}", _retry_after(answer))
        return answer


def patiently(
    ask: Callable[[], Any],
    *,
    patience: float,
    on_wait: Callable[[ProviderAway], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Any:
    """Repeats ``ask`` while the provider is away, for ``patience`` seconds. Raises the last ``ProviderAway``."""
    limit, pause = clock() + patience, 0.5
    while True:
        try:
            return ask()
        except ProviderAway as away:
            wait = min(max(pause, away.retry_after or 0.0), 30.0)
            if clock() + wait > limit:
                raise
            on_wait(away)
        sleep(wait)
        pause = min(pause * 2, 10.0)


def _nothing(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _object(answer: requests.Response) -> dict[str, Any] | None:
    try:
        content = answer.json()
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _retry_after(answer: requests.Response) -> float | None:
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "")))
    except ValueError:
        return None
