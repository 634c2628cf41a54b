"""Ensembles outside a round: train one on a file, predict a file with one, say how good one is."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from gnome_core.ensembles.ensemble import EnsembleModel
from gnome_core.ensembles.workflows import Ensemble
from gnome_core.models.shipped import Framework, members_in, pretrained_members
from gnome_core.stability.hull import Hull
from pipelines.errors import UserError
from pipelines.reading.committed import hull_vertices, newest_commit
from pipelines.reading.members import local_member, member_addresses
from pipelines.store.store import Store


def open_ensemble(folder: str | None, store: str | None, framework: Framework) -> Ensemble:
    """The members of a folder that `gnome train` made, of a store's newest round with its hull, or those shipped.

    Raises UserError where there are none, BadMember for files that are not what they should be.
    """
    hull = None
    if folder:
        paths = members_in(folder)
    elif store:
        paths, hull = _of_store(store, framework)
    else:
        paths = pretrained_members(framework)
    model = EnsembleModel.load(paths)
    return Ensemble(cast(Framework, model.records[0].model), model, hull)


def _of_store(root: str, framework: Framework) -> tuple[list[Path], Hull]:
    opened = Store.open(root)
    trained, measured = newest_commit(opened, "train"), newest_commit(opened, "hull")
    if trained is None or measured is None:
        raise UserError(f"{root} has no trained members yet; `gnome round resume {root}` goes on")
    paths = [Path(local_member(address)) for address in member_addresses(opened, trained, framework)]
    if not paths:
        raise UserError(
            f"{root} trains no {framework} members (`framework`, `scoring.model` of its rounds); ask for the other kind"
        )
    return paths, hull_vertices(root, measured.round)
