"""The addresses of browser sign-in: `/auth/session`, `/auth/sign-in`, `/auth/callback`, `/auth/sign-out`.

A page asks `/auth/session` who is signed in, and where to sign in or out. The other addresses are opened
by the browser itself. No token reaches a page or an address; the browser has random cookies only.
"""

import hmac
from collections.abc import Awaitable, Callable
from html import escape
from urllib.parse import urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from app.server.cross_site import AllowedOrigins
from app.server.responses import problem_response
from app.server.sign_in.auth import Auth, BrowserSignIn
from app.server.sign_in.browser_sessions import EARLY_S
from app.server.sign_in.oidc import REFUSED
from persistence.db.transient import is_transient
from persistence.problems import Problem, ProblemCode, Unauthenticated
from persistence.secrets.keyring import KeyProblem
from schema.errors import unexpected_message

log = structlog.get_logger(__name__)

HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
NO_ATTEMPT = (
    "This browser has no attempt to sign in that belongs to this answer: it took longer than 10 minutes, was used "
    "already, or cookies are blocked."
)
NO_ISSUER = "This server has no sign-in for browsers: see TREADLE_OIDC_ISSUER in docs/sign_in.md."
STORE_AWAY = "A store is unavailable; try again later."
MAX_PATH = 2000
"""Bytes of the longest path to return to: it is in a cookie, and browsers drop those of more than 4,096."""
Respond = Callable[[Request], Awaitable[Response]]


class SignInRoutes:
    """Answers the requests for the addresses of browser sign-in."""

    def __init__(self, auth: Callable[[], Auth], public_address: str, origins: AllowedOrigins) -> None:
        """`auth` returns the sign-in of the running server."""
        self._auth, self._public_address, self._origins = auth, public_address, origins
        parts = urlsplit(public_address)
        self._origin, self._home = f"{parts.scheme}://{parts.netloc}", f"{parts.path}/"

    def routes(self) -> list[Route]:
        return [
            Route("/auth/session", self._guarded(self.session), methods=["GET"]),
            Route("/auth/sign-in", self._guarded(self.sign_in), methods=["GET"]),
            Route("/auth/callback", self._guarded(self.callback), methods=["GET"]),
            Route("/auth/sign-out", self._guarded(self.sign_out), methods=["POST"]),
        ]

    async def session(self, request: Request) -> Response:
        """Say who is signed in. A session that has ended or ends soon is renewed first."""
        if (refusal := self._origins.refusal(request.headers)) is not None:
            return problem_response(403, ProblemCode.FORBIDDEN, refusal)
        auth = self._auth()
        answer: dict[str, str | None] = dict.fromkeys(("subject", "expiresAt", "signInUrl", "signOutUrl"))
        if auth.browser is None:
            mode = "token" if auth.needs_token else "local"
            answer["subject"] = None if auth.needs_token else "local"
            return JSONResponse({"mode": mode, **answer}, headers=HEADERS)
        answer["signInUrl"] = f"{self._public_address}/auth/sign-in"
        response = JSONResponse({"mode": "oidc", **answer}, headers=HEADERS)
        cookie = auth.browser.cookies.session_of(request)
        if cookie is None:
            return response
        try:
            grant = (await auth.browser.sessions.valid(cookie, early_s=EARLY_S)).grant
        except Unauthenticated:
            auth.browser.cookies.clear_session(response)
            return response
        answer |= {"subject": grant.subject, "expiresAt": grant.expires_at.isoformat().replace("+00:00", "Z")}
        answer["signOutUrl"] = f"{self._public_address}/auth/sign-out"
        return JSONResponse({"mode": "oidc", **answer}, headers=HEADERS)

    async def sign_in(self, request: Request) -> Response:
        """Send the browser to the issuer, which sends it back to `/auth/callback`."""
        browser = self._browser()
        url, attempt = await browser.sessions.issuer.begin(own_path(request.query_params.get("returnTo"), self._home))
        response = _redirect(url)
        browser.cookies.set_attempt(response, attempt)
        return response

    async def callback(self, request: Request) -> Response:
        """Exchange the code of the issuer for a session, and return to the page."""
        browser, query = self._browser(), request.query_params
        attempt = browser.cookies.attempt_of(request.cookies)
        is_ours = browser.sessions.issuer.is_own(query.get("iss"))
        # The state binds the answer to the browser that has asked (RFC 6749, section 10.12).
        if attempt is None or not is_ours or not _is_same(attempt.state, query.get("state")):
            raise Unauthenticated(NO_ATTEMPT)
        if (code := query.get("code")) is None:
            log.warning("sign_in.refused", error=query.get("error", "")[:100], description=_description(request))
            raise Unauthenticated(REFUSED)
        tokens = await browser.sessions.issuer.redeem(attempt, code)
        response = _redirect(self._origin + attempt.return_to)
        # A new value for each sign-in, so that nobody can plant a session that he knows.
        browser.cookies.set_session(response, await browser.sessions.start(tokens))
        browser.cookies.clear_attempt(response)
        log.info("sign_in.session_started", subject=tokens.subject)
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session, and send the browser to the page of the issuer that ends its session there."""
        if (refusal := self._origins.refusal(request.headers)) is not None:
            return problem_response(403, ProblemCode.FORBIDDEN, refusal)
        browser = self._browser()
        cookie = browser.cookies.session_of(request)
        if cookie is not None:
            await browser.sessions.end(cookie)
        response = _redirect(await browser.sessions.issuer.sign_out_url() or f"{self._public_address}/")
        browser.cookies.clear_session(response)
        return response

    def _browser(self) -> BrowserSignIn:
        browser = self._auth().browser
        if browser is None:
            raise Unauthenticated(NO_ISSUER, has_token=False)
        return browser

    def _guarded(self, respond: Respond) -> Respond:
        """Turn errors into a page that says what to do, or for `/auth/session` into a GraphQL error."""

        async def guarded(request: Request) -> Response:
            try:
                return await respond(request)
            except Problem as problem:
                status, code, message = problem.status, problem.code, problem.detail
            except KeyProblem as error:
                log.error("sign_in.no_key", error=str(error), advice="set TREADLE_SECRET_KEY for all servers")
                status, code, message = 500, ProblemCode.INTERNAL, unexpected_message()
            except Exception as error:
                if is_transient(error):
                    log.warning("app.unavailable", error=str(error) or type(error).__name__)
                    status, code, message = 503, ProblemCode.UNAVAILABLE, STORE_AWAY
                else:
                    log.exception("app.fault")
                    status, code, message = 500, ProblemCode.INTERNAL, unexpected_message()
            if request.url.path == "/auth/session":
                return problem_response(status, code, message, HEADERS)
            return _error_page(status, message, f"{self._public_address}/auth/sign-in")

        return guarded


def own_path(path: str | None, home: str = "/") -> str:
    """Return a path of this server; `home` for an address of another one, which would be an open redirect.

    Browsers read a backslash as a slash, and ignore control characters.
    """
    if path is None or len(path.encode()) > MAX_PATH or not path.startswith("/") or not path.isprintable():
        return home
    return home if path[1:2] in ("/", "\\") else path


def _is_same(expected: str, found: str | None) -> bool:
    return found is not None and hmac.compare_digest(expected.encode(), found.encode("utf-8", "replace"))


def _description(request: Request) -> str:
    return request.query_params.get("error_description", "")[:300]


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303, HEADERS)


def _error_page(status: int, message: str, sign_in_url: str) -> Response:
    """Create the page of an attempt that has failed. It does not try again by itself: that might not end."""
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Treadle: sign-in</title>'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}</style>"
        f'<h1>Not signed in</h1><p>{escape(message)}</p><p><a href="{escape(sign_in_url)}">Sign in again</a></p></html>'
    )
    return HTMLResponse(body, status, {**HEADERS, "Content-Security-Policy": PAGE_POLICY})
