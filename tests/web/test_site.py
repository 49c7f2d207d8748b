"""The page and its files as a browser receives them, from a folder like that of a build."""

import gzip
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from web import site

SCRIPT = b"export const answer = 42;\n" * 40


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    for name in (site.STUDIO, site.GRAPHIQL):
        (tmp_path / name).write_text(
            f'<head><title>Treadle</title></head>{name}<script src="./assets/index-abc.js"></script>'
        )
    (tmp_path / "assets" / "index-abc.js").write_bytes(SCRIPT)
    (tmp_path / "assets" / "index-abc.js.gz").write_bytes(gzip.compress(SCRIPT))
    (tmp_path / "assets" / "codicon-abc.ttf").write_bytes(b"a font")
    return tmp_path


@pytest.fixture
def browser(dist: Path) -> TestClient:
    return browser_of(dist)


def browser_of(dist: Path) -> TestClient:
    def graphql(request: Request) -> Response:
        return site.page(dist) if site.wants_page(request) else Response("an answer of the API")

    app = Starlette(routes=[Route("/graphql", graphql, methods=["GET", "POST"]), *site.routes(dist)])
    return TestClient(app, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/", "./"),
        ("/workflows", "./"),
        ("/workflows/", "../"),
        ("/workflows/wf_1", "../"),
        ("/runs/run_1?node=a%2Fb", "../"),
        ("/runs/a/b/c", "../../../"),
    ],
)
def test_each_address_of_the_studio_is_its_page_with_a_relative_base(browser: TestClient, path: str, base: str) -> None:
    """So a link to a run works, also behind a proxy that adds a path prefix."""
    answer = browser.get(path)
    assert answer.status_code == 200
    assert f'<base href="{base}" />' in answer.text
    assert "index.html" in answer.text
    assert "script-src" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/workflows/wf_1", "application/json"), ("/runs", "*/*"), ("/workflow", "text/html"), ("/api", "text/html")],
)
def test_other_paths_and_programs_do_not_receive_the_page(browser: TestClient, path: str, accept: str) -> None:
    assert browser.get(path, headers={"Accept": accept}).status_code == 404


def test_a_browser_receives_the_page_and_revalidates_it_at_each_visit(browser: TestClient) -> None:
    answer = browser.get("/graphql")
    assert answer.status_code == 200
    assert "<title>Treadle</title>" in answer.text
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["vary"] == "Accept"


def test_the_page_may_load_nothing_from_other_hosts(browser: TestClient) -> None:
    policy = browser.get("/graphql").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    ("method", "url", "accept"),
    [
        ("POST", "/graphql", "text/html"),
        ("GET", "/graphql", "application/json"),
        ("GET", "/graphql", "text/event-stream"),
        ("GET", "/graphql?query={viewer{subject}}", "text/html"),
    ],
)
def test_a_client_of_the_api_does_not_receive_the_page(browser: TestClient, method: str, url: str, accept: str) -> None:
    assert browser.request(method, url, headers={"Accept": accept}).text == "an answer of the API"


def test_a_script_is_sent_compressed_and_is_cached(browser: TestClient) -> None:
    answer = browser.get("/assets/index-abc.js", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == SCRIPT


def test_a_script_is_sent_uncompressed_to_a_client_without_gzip(browser: TestClient) -> None:
    answer = browser.get("/assets/index-abc.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.content == SCRIPT


def test_a_file_without_a_compressed_copy_is_sent_unchanged(browser: TestClient) -> None:
    answer = browser.get("/assets/codicon-abc.ttf", headers={"Accept-Encoding": "gzip"})
    assert answer.content == b"a font"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["missing.js", "../index.html", "..%2findex.html", "%00", "a" * 5000])
def test_an_unknown_path_is_not_found_and_not_cached(browser: TestClient, path: str) -> None:
    answer = browser.get(f"/assets/{path}")
    assert answer.status_code == 404
    assert "cache-control" not in answer.headers


def test_before_the_build_the_page_explains_how_to_build_it_and_assets_are_not_found(tmp_path: Path) -> None:
    browser = browser_of(tmp_path / "nothing")
    answer = browser.get("/graphql")
    assert answer.status_code == 503
    assert "make setup" in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert browser.get("/assets/index-abc.js").status_code == 404


def test_a_page_that_is_built_while_the_server_runs_is_served_at_once(tmp_path: Path) -> None:
    browser = browser_of(tmp_path)
    assert browser.get("/graphql").status_code == 503
    (tmp_path / site.GRAPHIQL).write_text("built")
    assert browser.get("/graphql").text == "built"
