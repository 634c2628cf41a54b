"""What the page holds of each discovery: a row of its table, and what its scripts draw, filter and write to files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from gnome_core.analysis.confirmation import ANSWERS
from gnome_core.analysis.credibility import STEPS
from gnome_core.compositions.formulas import SYMBOLS, composition_key
from gnome_core.crystals.crystal import Crystal, crystal_digest
from gnome_core.crystals.symmetry import SpaceGroup, space_group, symmetry_dataset
from pipelines.reading.discoveries import ProvenanceStep, StableCrystal
from pipelines.reading.relaxations import RelaxationPath
from pipelines.report.data import ReportData
from pipelines.report.labels import NOTHING, formula_html, mapping_text, milli, number
from pipelines.report.sections.elements import short_id

MATERIALS_PROJECT = "https://next-gen.materialsproject.org/materials"
_MP_ID = re.compile(r"mp-\d+")
TITLES = {step.key: step.title for step in STEPS}
SYMPREC, TYPE_SYMPREC = 0.01, 0.1  # Å


@dataclass(frozen=True)
class Column:
    """key: in files. title: on the page, with its unit. unit: of the values in files. shown: until one chooses."""

    key: str
    title: str
    unit: str = ""
    numeric: bool = False
    shown: bool = True


COLUMNS = (
    Column("formula", "Formula"),
    Column("verdict", "Checks"),
    Column("space_group", "Space group"),
    Column("structure_type", "Structure type"),
    Column("e_form_per_atom", "Formation energy (eV/atom)", "eV/atom", numeric=True),
    Column("predicted_e_form", "Ensemble, ± half its IQR (eV/atom)", "eV/atom", numeric=True, shown=False),
    Column("e_above_hull_others", "To the hull without it (meV/atom)", "eV/atom", numeric=True),
    Column("e_above_mp_hull", "To MP's hull (meV/atom)", "eV/atom", numeric=True),
    Column("p_stable", "Chance to be stable (%)", numeric=True),
    Column("confirmed", "Confirmed"),
    Column("novelty", "Novelty", shown=False),
    Column("parent", "Parent"),
    Column("made_by", "Made by"),
    Column("round", "Round", numeric=True, shown=False),
    Column("n_sites", "Atoms in the cell", numeric=True, shown=False),
    Column("volume", "Volume (Å³)", "Å³", numeric=True, shown=False),
    Column("id", "Id"),
)


@dataclass(frozen=True)
class Row:
    """cells: text or markup, by column. record: plain values for the page's scripts; energies in eV/atom."""

    id: str
    cells: tuple[str, ...]
    record: dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """group: None where moyopy finds none. conventional: its cell in vectors of the crystal's, if whole numbers.

    type: as the ICSD describes structure types, "ABC3, cP5, 221, c b a": formula, Pearson symbol, space group, Wyckoff
    positions. Origins of one type can differ, which `gnome analyse prototypes` sees through.
    """

    group: SpaceGroup | None
    type: str | None
    conventional: list[list[int]] | None


def rows(data: ReportData, stable: list[StableCrystal]) -> list[Row]:
    """One a crystal, in their order."""
    predictions = {
        id_: (median, iqr)
        for id_, median, iqr in zip(
            *(data.jobs[name].to_pylist() for name in ("id", "predicted_e_form", "predicted_iqr")), strict=True
        )
    }
    verdicts: dict[str, dict] = {}
    if data.credibility is not None:
        verdicts = {row["id"]: row for row in data.credibility.analysis.tables["crystals"].to_pylist()}
    return [_row(data, one, predictions.get(one.job), verdicts.get(one.id, {})) for one in stable]


def _row(data: ReportData, one: StableCrystal, predicted: tuple[float, float] | None, verdict: Mapping) -> Row:
    crystal, shape = one.crystal, shape_of(one.crystal)
    parent = one.chain[1] if len(one.chain) > 1 else None
    error = one.e_above_mp_hull_uncertainty
    within = "" if error is None else f" ± {number(error, 3)}"
    checks = [[key, verdict[key], verdict[f"{key}_why"]] for key in _checks(verdict)]
    values = {
        "formula": one.formula,
        "verdict": _verdict(verdict),
        "space_group": str(shape.group) if shape.group else None,
        "structure_type": shape.type,
        "e_form_per_atom": one.e_form,
        "predicted_e_form": predicted and predicted[0],
        "e_above_hull_others": one.e_above_hull,
        "e_above_mp_hull": one.e_above_mp_hull,
        "p_stable": one.p_stable,
        "confirmed": confirmed_text(one),
        "novelty": ": ".join(filter(None, one.novelty)),
        "parent": parent and parent.id,
        "made_by": recipe_text(one.chain[0]) or None,
        "round": one.round,
        "n_sites": crystal.n_sites,
        "volume": round(crystal.volume, 2),
        "id": one.id,
    }
    cells = {
        "formula": formula_html(one.formula),
        "verdict": _marks(checks) + (values["verdict"] or NOTHING),
        "space_group": values["space_group"] or NOTHING,
        "structure_type": shape.type or NOTHING,
        "e_form_per_atom": number(one.e_form, 3) + within,
        "predicted_e_form": f"{number(predicted[0], 3)} ± {number(predicted[1] / 2, 3)}" if predicted else NOTHING,
        "e_above_hull_others": milli(one.e_above_hull, 1),
        "e_above_mp_hull": NOTHING
        if one.e_above_mp_hull is None
        else milli(one.e_above_mp_hull) + ("" if error is None else f" ± {milli(error)}"),
        "p_stable": NOTHING if one.p_stable is None else number(100 * one.p_stable),
        "confirmed": confirmed_text(one) or NOTHING,
        "novelty": novelty_text(one),
        "parent": _linked(formula_html(parent.formula), mp_address(parent.id, parent.formula)) if parent else NOTHING,
        "made_by": (values["made_by"] or NOTHING).replace(" → ", "\xa0→\xa0"),
        "round": str(one.round),
        "n_sites": str(crystal.n_sites),
        "volume": number(crystal.volume, 1),
        "id": short_id(one.id),
    }
    record = {
        "values": {name: round(v, 6) if isinstance(v, float) else v for name, v in values.items()},
        "uncertainty": error,
        "elements": one.chemsys.split("-"),
        "credible": verdict.get("credible"),
        "checks": [[TITLES.get(key, key), passed, why] for key, passed, why in checks],
        "reaction": data.reactions.get(one.id),
        "relaxation": _relaxation(data.relaxations.get(one.job)),
        "steps": [step_text(step) for step in one.chain],
        "lattice": crystal.lattice.round(7).tolist(),
        "sites": crystal.frac_coords.round(7).tolist(),
        "symbols": [SYMBOLS[z] for z in crystal.numbers],
        "conventional": shape.conventional,
    }
    return Row(one.id, tuple(cells[column.key] for column in COLUMNS), record)


def _relaxation(path: RelaxationPath | None) -> dict[str, Any] | None:
    """energies: meV/atom above the last step's, by step. volume: of the last step over the first one's."""
    if path is None:
        return None
    above = 1000 * (path.energies - path.energies[-1])
    return {
        "energies": above.round(1).tolist(),
        "volume": round(float(path.volumes[-1] / path.volumes[0]), 4),
        "calculation": path.calculation,
    }


def shape_of(crystal: Crystal) -> Shape:
    """Space group, structure type and conventional cell; kept, for a live page asks again at every commit."""
    digest = crystal_digest(crystal)
    if digest not in _shapes:
        _shapes[digest] = Shape(space_group(crystal, SYMPREC), _type(crystal), _conventional(crystal))
    return _shapes[digest]


_shapes: dict[str, Shape] = {}


def _type(crystal: Crystal) -> str | None:
    found = symmetry_dataset(crystal, TYPE_SYMPREC)
    if found is None:
        return None
    counts = sorted(count for _, count in composition_key(crystal.numbers))
    formula = "".join(letter + (str(n) if n > 1 else "") for letter, n in zip(ascii_uppercase, counts, strict=False))
    letters = Counter(dict(zip(found.orbits, found.wyckoffs, strict=True)).values())
    positions = " ".join(letter + (str(n) if n > 1 else "") for letter, n in sorted(letters.items(), reverse=True))
    return f"{formula}, {found.pearson_symbol}, {found.number}, {positions}"


def _conventional(crystal: Crystal) -> list[list[int]] | None:
    found = symmetry_dataset(crystal, SYMPREC)
    if found is None:
        return None
    rows = np.array(found.std_linear).T  # moyopy's columns are the new cell's vectors
    whole = np.rint(rows).astype(int)
    return whole.tolist() if np.abs(rows - whole).max() < 1e-3 else None


def recipe_text(step: ProvenanceStep) -> str:
    """How a step was made; empty for a root."""
    if step.cell:
        return f"{step.generator}: {step.cell}"
    sites = "" if step.n_replaced_sites is None else f" on {step.n_replaced_sites} sites"
    return f"{step.generator}: {mapping_text(step.mapping)}{sites}" if step.generator else ""


def step_text(step: ProvenanceStep) -> str:
    """A step of a chain in words."""
    made = recipe_text(step)
    where = "snapshot" if step.round == 0 else f"round {step.round}"
    return f"{step.formula} ({step.id}, {where})" + (f" by {made}" if made else "")


def confirmed_text(one: StableCrystal) -> str | None:
    """What the second judges say who were asked; None where nobody was."""
    if one.confirmed_by is None:
        return None
    return f"{ANSWERS[one.confirmed]}, {one.confirmed_by}"


def novelty_text(one: StableCrystal) -> str | Markup:
    """The level and who knows it, linked to the Materials Project where that does."""
    level, source = one.novelty
    if not source:
        return level
    address = next(filter(None, (mp_address(name, one.formula) for name in source.split(", "))), None)
    return Markup("{} <small>{}</small>").format(level, _linked(source, address))


def mp_address(name: str, formula: str) -> str | None:
    """Where the Materials Project shows its entry ("mp-1265"), or those of a formula that its list ("mp") names."""
    if _MP_ID.fullmatch(name):
        return f"{MATERIALS_PROJECT}/{name}"
    return f"{MATERIALS_PROJECT}?formula={quote(formula, safe='')}" if name == "mp" else None


def _linked(text: str, address: str | None) -> str | Markup:
    if address is None:
        return text
    return Markup('<a href="{}" target="_blank" rel="noopener noreferrer">{}</a>').format(address, text)


def _checks(verdict: Mapping) -> list[str]:
    return [name.removesuffix("_why") for name in verdict if name.endswith("_why")]


def _verdict(verdict: Mapping) -> str | None:
    if not verdict:
        return None
    n = len(_checks(verdict))
    return f"passes all {n}" if verdict["credible"] else f"not {verdict['stopped_by']}"


def _marks(checks: list[list]) -> Markup:
    """A mark a check, with its reason as tooltip; the words beside them are for readers of screens."""
    mark = {True: ("pass", "✓"), False: ("fail", "✗"), None: ("unknown", "?")}
    return Markup('<span class="marks" aria-hidden="true">{}</span> ').format(
        Markup("").join(
            Markup('<span class="{}" title="{}">{}</span>').format(
                mark[passed][0], f"{key}: {why or ('passed' if passed else 'not passed')}", mark[passed][1]
            )
            for key, passed, why in checks
        )
    )
