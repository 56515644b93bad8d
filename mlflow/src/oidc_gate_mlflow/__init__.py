"""MLflow behind oidc-gate: who the user is on the server, and tokens for its Python client."""

__version__ = "0.1.0"
