"""MLflow's client asks here for every request: ``MLFLOW_TRACKING_AUTH=oidc-gate``."""

from __future__ import annotations

from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider
from requests.auth import AuthBase

from oidc_gate_mlflow.client.auth import OidcGateAuth

NAME = "oidc-gate"


class OidcGateAuthProvider(RequestAuthProvider):  # type: ignore[misc]
    """The entry point ``mlflow.request_auth_provider``."""

    def get_name(self) -> str:
        return NAME

    def get_auth(self) -> AuthBase:
        return OidcGateAuth()
