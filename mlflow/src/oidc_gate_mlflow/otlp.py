"""Traces that arrive by OTLP: the tags in their spans.

MLflow takes tags of the trace from attributes of its root span. For this route it shows the authorization function
no body, so the spans are changed where the route hands them to the store. Of a client's spans, the tags that say who
made a trace and where it is stored are left out.
"""

from __future__ import annotations

import contextvars
from typing import Any

from mlflow.server import otel_api
from mlflow.tracing.constant import SpanAttributeKey

from oidc_gate_mlflow.owners import is_reserved

PREFIX: str = SpanAttributeKey.TRACE_TAG_PREFIX

# Set by the authorization function. The route runs in a copy of its context.
keeps_owners: contextvars.ContextVar[bool] = contextvars.ContextVar("oidc_gate_mlflow_keeps_owners", default=False)


class _Store:
    """MLflow's tracking store, except that spans are cleaned first."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def log_spans_async(self, location: str, spans: list[Any], *more: Any, **named: Any) -> Any:
        if not keeps_owners.get():
            for span in spans:
                clean(span._span._attributes)
        return await self._store.log_spans_async(location, spans, *more, **named)


def clean(attributes: Any) -> None:
    for key in [key for key in attributes if key.startswith(PREFIX) and is_reserved(key[len(PREFIX) :])]:
        del attributes[key]


def install() -> None:
    """Puts the store that cleans between the route and MLflow's store, once in a process."""
    find = otel_api._get_tracking_store
    if getattr(find, "_oidc_gate_mlflow", False):
        return

    def find_and_clean(*arguments: Any, **named: Any) -> _Store:
        return _Store(find(*arguments, **named))

    find_and_clean._oidc_gate_mlflow = True  # type: ignore[attr-defined]
    otel_api._get_tracking_store = find_and_clean
