"""Serve the built pages: the studio at `/`, GraphiQL at `/graphql`, and their files under `/assets`.

Files are read at each request, so a page that is built while the server runs is served at once. It
has no state of its own. The server of `app` calls it.
"""

import os
from mimetypes import guess_type
from os import PathLike, stat_result
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

DIST = Path(__file__).with_name("dist")
SECTIONS = ("workflows", "runs", "questions", "triggers", "secrets", "statistics")
"""The first parts of the addresses of the studio, as in `web/src/routes.tsx`."""
STUDIO, GRAPHIQL = "index.html", "graphiql.html"
# Nothing is loaded from other hosts, and no script is inline. Editors set styles from scripts, which
# needs 'unsafe-inline' for styles.
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}
ASSET_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}
NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Treadle</title>
<h1>Treadle</h1><p>The API is running, but this page is not built yet. Run <code>make setup</code> (or
<code>python -m web.build</code>) and reload.</p><p>Queries work already: POST them to <code>/graphql</code> as
JSON.</p></html>"""


def wants_page(request: Request) -> bool:
    """Return whether a browser opens the address, and not a client that sends a query by GET."""
    accepts_html = "text/html" in request.headers.get("accept", "")
    return request.method in {"GET", "HEAD"} and accepts_html and "query" not in request.query_params


def page(dist: Path = DIST, name: str = GRAPHIQL, depth: int = 0) -> Response:
    """Return a page, or 503 with instructions if it is not built.

    Args:
        dist: The folder of the build.
        name: The file of the page.
        depth: How many folders the address is below the root. The page names its files relative to the
            root, so that it also works behind a proxy that adds a path prefix.
    """
    try:
        text = (dist / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return HTMLResponse(NOT_BUILT, status_code=503, headers={**PAGE_HEADERS, "Cache-Control": "no-store"})
    base = f'<base href="{"../" * depth or "./"}" />'
    return HTMLResponse(text.replace("<head>", f"<head>\n    {base}", 1), headers=PAGE_HEADERS)


def routes(dist: Path = DIST, *, with_studio: bool = True) -> list[BaseRoute]:
    """Return the routes that the pages need in addition to `/graphql`.

    Without the studio, `/` leads to GraphiQL.
    """

    def studio(request: Request) -> Response:
        return page(dist, STUDIO)

    def section(request: Request) -> Response:
        if not wants_page(request):
            raise HTTPException(404)
        return page(dist, STUDIO, _depth(request.path_params.get("rest")))

    sections = [Route(f"/{name}{rest}", section) for name in SECTIONS for rest in ("", "/{rest:path}")]
    assets = Mount("/assets", Assets(directory=dist / "assets", check_dir=False), name="assets")
    if not with_studio:
        return [Route("/", RedirectResponse("/graphql")), assets]
    return [Route("/", studio), *sections, assets]


def _depth(rest: str | None) -> int:
    return 0 if rest is None else 1 + rest.count("/")


class Assets(StaticFiles):
    """Files with a hash in their names: cached without expiry, and compressed if accepted."""

    async def check_config(self) -> None:
        """Check nothing: the folder does not exist before the build."""

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        compressed = Path(f"{os.fspath(full_path)}.gz")
        if "gzip" in Headers(scope=scope).get("accept-encoding", "") and compressed.is_file():
            response = super().file_response(compressed, compressed.stat(), scope, status_code)
            response.headers["Content-Encoding"] = "gzip"
            response.headers["Content-Type"] = guess_type(full_path)[0] or "application/octet-stream"
        else:
            response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(ASSET_HEADERS)
        return response
