"""MLflow's page, with the script that the gate serves for it.

Only the answer of the route of ``index.html`` is changed. Its file is read once in a process. The page gets an ETag of
its own: a browser that kept MLflow's page without the script gets the new one, not a 304.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from flask import Response, current_app, request

SCRIPT = b'<script src="/oauth2/mlflow.js" defer></script>'
# MLflow's own script is deferred as well, and so runs after this one.
BEFORE = (b"<script", b"</head>")
ENDPOINT = "serve"


@dataclass(frozen=True)
class _Page:
    content: bytes
    etag: str


def with_script(response: Response) -> Response:
    """A finisher: MLflow's page with the script, and any other answer as it is."""
    # 304 and 206 are answers about the page without the script.
    if request.endpoint != ENDPOINT or response.status_code not in (200, 206, 304):
        return response
    page = _page(Path(current_app.static_folder or "") / "index.html")
    if page is None:
        return response
    close = getattr(response.response, "close", None)
    if close is not None:
        close()
    response.direct_passthrough = False
    response.status_code = 200
    response.set_data(page.content)
    for name in ("Content-Range", "Last-Modified", "Accept-Ranges"):
        response.headers.pop(name, None)
    response.mimetype = "text/html"
    response.set_etag(page.etag)
    response.make_conditional(request.environ)
    return response


@functools.cache
def _page(path: Path) -> _Page | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    place = min((found for mark in BEFORE if (found := content.find(mark)) >= 0), default=-1)
    if place < 0:
        return None
    content = content[:place] + SCRIPT + content[place:]
    return _Page(content, hashlib.sha256(content).hexdigest()[:32])
