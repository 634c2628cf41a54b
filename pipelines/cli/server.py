"""What `gnome serve` does: listen, say where, and answer until it is interrupted."""

from __future__ import annotations

import contextlib
import secrets
import socket
from ipaddress import ip_address

import typer

from pipelines.errors import UserError
from pipelines.store.store import Store


def serve_report(store: Store, host: str, port: int) -> None:
    """Raises UserError where the extra is missing or nothing can listen there."""
    try:
        import uvicorn

        from pipelines.report.live import make_app
    except ModuleNotFoundError as error:
        raise UserError(f"gnome serve needs {error.name}; pip install 'gnome-flywheel[serve]'") from None
    listening = _listen(host, port)
    name, bound = listening.getsockname()[:2]
    own = ip_address(name).is_loopback
    token = None if own else secrets.token_urlsafe(24)
    shown = socket.gethostname() if ip_address(name).is_unspecified else host
    typer.echo(f"http://{shown}:{bound}/" + (f"?token={token}" if token else ""))
    if token:
        typer.echo("Whoever has this address can read the report; what is sent is not encrypted.", err=True)
    config = uvicorn.Config(make_app(store.root, token), log_level="warning", access_log=False, server_header=False)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"cannot listen at {host}:{port}: {error.strerror or error}; choose --port or --host") from None
