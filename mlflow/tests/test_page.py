"""The gate's script in MLflow's page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from support import Server, admin, bearer

pytestmark = pytest.mark.server

SCRIPT = '<script src="/oauth2/mlflow.js" defer></script>'


@pytest.fixture(scope="module", params=["", "/mlflow"])
def prefixed(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """With and without a prefix."""
    if not request.param:
        yield server
        return
    with Server(tmp_path_factory.mktemp("prefix"), arguments=(f"--static-prefix={request.param}",)) as running:
        yield running


def page(server: Server, **headers: str) -> requests.Response:
    return server.get(f"{server.prefix}/", {**bearer(), **headers})


def test_the_page_has_the_script_once_and_before_mlflows(prefixed: Server) -> None:
    answer = page(prefixed)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.count(SCRIPT) == 1
    assert answer.text.index(SCRIPT) < answer.text.index('<script defer="defer"')
    assert answer.text.endswith("</html>")
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert "Content-Security-Policy" not in answer.headers


def test_a_browser_that_has_the_page_is_told_so(server: Server) -> None:
    answer = page(server)
    assert "no-cache" in answer.headers["Cache-Control"]
    again = page(server, **{"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]


def test_a_browser_that_has_the_page_without_the_script_gets_the_other_one(server: Server, folder: Path) -> None:
    with Server(folder, environment={"MLFLOW_PAGE_SCRIPT": "off"}) as without:
        plain = page(without)
    assert plain.status_code == 200
    assert SCRIPT not in plain.text
    kept = {"If-None-Match": plain.headers["ETag"], "If-Modified-Since": plain.headers["Last-Modified"]}
    for headers in (kept, {"If-Modified-Since": plain.headers["Last-Modified"]}, {"Range": "bytes=0-9"}):
        answer = page(server, **headers)
        assert (answer.status_code, answer.text.count(SCRIPT)) == (200, 1), headers
        assert "Content-Range" not in answer.headers
        assert "Last-Modified" not in answer.headers


def test_head_is_as_long_as_get(server: Server) -> None:
    # MLflow answers HEAD to administrators only.
    answer = requests.head(f"{server.url}/", headers=admin(), timeout=30)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == page(server).headers["Content-Length"]
    assert answer.headers["ETag"] == page(server).headers["ETag"]


@pytest.mark.parametrize("path", ["/static-files/index.html", "/ajax-api/2.0/mlflow/users/current", "/version"])
def test_nothing_else_is_changed(server: Server, path: str) -> None:
    answer = server.get(path, bearer())
    assert answer.status_code == 200
    assert SCRIPT not in answer.text


def test_a_refused_page_has_no_script(server: Server) -> None:
    answer = server.get("/")
    assert answer.status_code == 401
    assert SCRIPT not in answer.text
