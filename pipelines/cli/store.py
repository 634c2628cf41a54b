"""`gnome verify`, `gnome gc` and `gnome migrate`: they look after a store."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli.options import JsonOption, StoreArg


def verify(store: StoreArg, as_json: JsonOption = False) -> None:
    """Read everything committed and name what is damaged: checksums, counts, lineage, foreign files."""
    from pipelines.rounds.verify import verify as complaints
    from pipelines.store.store import Store

    if as_json:
        from pipelines.cli.json_text import print_json

        found = [complaint._asdict() for complaint in complaints(Store.open(store, damaged=True))]
        print_json({"store": store, "whole": not found, "complaints": found})
        raise typer.Exit(int(bool(found)))
    opened, n = Store.open(store, damaged=True), 0
    for n, complaint in enumerate(complaints(opened), start=1):  # noqa: B007
        typer.echo(f"{complaint.path} {complaint.what}")
    if n:
        typer.echo(f"{n} complaints", err=True)
        raise typer.Exit(1)
    typer.echo(f"{store} is whole")


def gc(
    store: StoreArg,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without, it is listed.")] = False,
    older_than: Annotated[float, typer.Option(min=0, help="Hours since an attempt began: one may be running.")] = 24.0,
) -> None:
    """List, or remove, what attempts that never committed have left."""
    from datetime import timedelta

    from pipelines.rounds.gc import leftovers, remove
    from pipelines.store.store import Store

    opened, total = Store.open(store, damaged=True), 0
    for leftover in list(leftovers(opened, timedelta(hours=older_than))):
        size = sum(leftover.files.values())
        total += size
        typer.echo(f"{leftover.path}  {leftover.what}, {len(leftover.files)} files, {size:,} bytes")
        if delete and not remove(opened, leftover):
            typer.echo(f"{leftover.path}  is in use by now; what is left of it stays")
    done = "removed" if delete else "to remove; --delete does it"
    typer.echo(f"{total:,} bytes {done}" if total else "nothing to do")


def migrate(store: StoreArg) -> None:
    """Bring a store that an older version made to the format of this one."""
    from pipelines.rounds.verify import migrate as bring
    from pipelines.store.store import Store

    changed = bring(Store.open(store, damaged=True))
    typer.echo(f"{len(changed)} files brought to this version's format" if changed else "nothing to do")
