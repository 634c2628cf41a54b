"""The report of a store as it grows: a server that only reads, for `gnome serve`."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from pipelines.report.collect import collect_page, store_name
from pipelines.report.labels import count, duration
from pipelines.report.page import LIVE_POLICY, Live, render, render_frame
from pipelines.rounds.plan import stages_of
from pipelines.rounds.standing import Standing, standings
from pipelines.store.records import stage_key
from pipelines.store.store import Store

STATE = "state"
COOKIE = "gnome-token"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
STATE_KEPT = 1.0  # s that all who ask within are told the same
HEADERS = {
    "Content-Security-Policy": f"{LIVE_POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class State:
    """version: changes when something was committed. lines: how the newest round stands, in sentences."""

    version: str
    lines: tuple[str, ...]


class LiveReport:
    """A store's page and state; both are made once for all who ask, the page when the version has changed."""

    def __init__(self, root: str):
        self.root = root
        self._state: tuple[float, State] | None = None
        self._page: tuple[str, str] | None = None
        self._state_lock, self._page_lock = Lock(), Lock()

    def state(self) -> State:
        """As it was at most STATE_KEPT seconds ago."""
        with self._state_lock:
            if self._state is None or time.monotonic() - self._state[0] > STATE_KEPT:
                self._state = time.monotonic(), state_of(Store.open(self.root))
            return self._state[1]

    def page(self) -> str:
        """The document of the newest version."""
        with self._page_lock:
            version = self.state().version
            if self._page is None or self._page[0] != version:
                self._page = version, _document(Store.open(self.root), Live(STATE, version))
            return self._page[1]


def state_of(store: Store) -> State:
    """How a store stands now."""
    rounds = store.rounds()
    commits = [
        (stage_key(round_, stage), commit.digest)
        for round_ in rounds
        for stage in stages_of(round_)
        if (commit := store.commit(round_, stage))
    ]
    newest = rounds[-1]
    lines = [_told(newest, standings(store, newest), store.is_closed(newest))]
    if commits:
        key, _ = commits[-1]
        lines.append(f"Last committed: {key}, {len(commits)} stages in all.")
    return State(sha256(repr(commits).encode()).hexdigest(), tuple(lines))


def _told(round_: int, stages: list[Standing], closed: bool) -> str:
    if closed:
        return f"Round {round_} is finished."
    done = [one for one in stages if one.commit]
    running = next((one for one in stages if not one.commit and one.attempts), None)
    told = f"Round {round_}: {len(done)} of {len(stages)} stages are done"
    if running is None:
        waiting = [one.stage for one in stages if not one.commit]
        return told + (f"; {waiting[0]} has not begun." if waiting else ".")
    again = f", attempt {running.attempts}" if running.attempts > 1 else ""
    far = f"; {running.progress}" if running.progress else f" and has written {count(running.written)} bytes"
    return f"{told}; {running.stage} began {duration(running.seconds)} ago{again}{far}."


def _document(store: Store, live: Live) -> str:
    if any(store.commit(round_, "hull") for round_ in store.rounds()):
        return render(collect_page(store), live)
    return render_frame(store_name(store.root), ["Nothing has been measured yet."], [], {}, live)


def make_app(root: str, token: str | None = None) -> Starlette:
    """The server. token: what a browser must bring once, as ?token=; None: none is asked for, and only names of this
    machine are answered, so that no page elsewhere can have a name of its own lead here."""
    report = LiveReport(root)

    def page(request: Request) -> Response:
        if token is not None and "token" in request.query_params:
            answer = RedirectResponse("./", status_code=303)  # the token leaves the address
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            return answer
        return HTMLResponse(report.page())

    def state(request: Request) -> Response:
        now = report.state()
        return JSONResponse({"version": now.version, "lines": list(now.lines)})

    routes = [Route("/", page, methods=["GET"]), Route(f"/{STATE}", state, methods=["GET"])]
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK) if token is None else Middleware(_Token, token)
    return Starlette(routes=routes, middleware=[Middleware(_Headers), guard])


ASGI = Callable[[dict[str, Any], Callable, Callable], Awaitable[None]]


class _Headers:
    """HEADERS on every answer."""

    def __init__(self, app: ASGI):
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self.app(scope, receive, with_headers)


class _Token:
    """403 for whoever brings the token neither in the address nor as a cookie."""

    def __init__(self, app: ASGI, token: str):
        self.app, self.token = app, token

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            brought = request.query_params.get("token") or request.cookies.get(COOKIE, "")
            if not hmac.compare_digest(brought.encode(), self.token.encode()):
                answer = PlainTextResponse("The address that `gnome serve` printed has a token; open that.", 403)
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)
