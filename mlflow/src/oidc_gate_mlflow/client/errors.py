"""What can go wrong on the way to a token. Each message says what to do, and none has a token in it."""

from __future__ import annotations


class TokenError(Exception):
    """There is no token, and waiting does not help."""


class LoginNeeded(TokenError):
    """A person has to sign in."""


class OAuthError(TokenError):
    """The provider refused, with an error code of RFC 6749 5.2 or RFC 8628 3.5."""

    def __init__(self, code: str, description: str = "") -> None:
        super().__init__(f"the identity provider refused: {code}" + (f" ({description})" if description else ""))
        self.code = code


class ProviderAway(Exception):
    """The provider does not answer, or says that it is busy. ``retry_after`` is in seconds."""

    def __init__(self, problem: str, retry_after: float | None = None) -> None:
        super().__init__(f"the identity provider is not available: {problem}")
        self.retry_after = retry_after
