"""What random search will look at, before a round does it: compositions, shares of the oxidation rules, AIRSS seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from rich.table import Table

from gnome_core.compositions.formulas import Composition, formula_of_composition
from gnome_core.files import replacing, write_file
from gnome_core.generation.config import CompositionConfig, GenerationConfig
from gnome_core.generation.oxidation import OxidationRule, can_be_neutral
from pipelines.cli.outputs import check_output, writing
from pipelines.cli.terminal import Terminal
from pipelines.errors import UserError

RULES: tuple[OxidationRule, ...] = get_args(OxidationRule)


def print_compositions(config: GenerationConfig, output: Path | None = None) -> None:
    """Print how many compositions there are and the share that each rule lets pass; of given ones, which pass.

    output: a text file for those that pass the configured rule, one formula a line. Raises UserError where nothing says
    which elements.
    """
    from gnome_core.generation.enumeration import compositions, n_items

    elements, settings = _elements(config), config.compositions
    check_output(output)
    console = Terminal(soft_wrap=True)
    console.print(_judged(settings.formulas) if settings.formulas else _shares(settings, elements))
    if output is None:
        return
    n = 0
    with writing(output), replacing(output) as file:
        for batch in compositions(0, n_items(settings, elements), settings, elements):
            file.writelines(f"{formula_of_composition(key)}\n".encode() for key in _keys(batch))
            n += len(batch)
    console.print(f"{n:,} formulas that pass the {settings.rule} rule written to {output}")


def _shares(settings: CompositionConfig, elements: Sequence[int]) -> Table:
    from gnome_core.generation.enumeration import pass_shares

    table = Table("elements", "compositions", *RULES)
    for k, (n, passed) in pass_shares(settings, elements, RULES).items():
        table.add_row(str(k), f"{n:,}", *(f"{passed[rule] / n:.1%}" for rule in RULES))
    return table


def _judged(formulas: Sequence[str]) -> Table:
    from gnome_core.compositions.packed import parse_formulas, unpack_compositions

    packed = parse_formulas(formulas)
    passed = [can_be_neutral(unpack_compositions(packed), rule) for rule in RULES]
    table = Table("formula", *RULES)
    for key, *row in zip(_keys(packed), *passed, strict=True):
        table.add_row(formula_of_composition(key), *("yes" if ok else "no" for ok in row))
    return table


def _keys(packed: np.ndarray) -> list[Composition]:
    return [tuple((z, n) for z, n in zip(row[:6], row[6:], strict=True) if z) for row in packed.tolist()]


def write_seeds(formulas: Sequence[str], config: GenerationConfig, folder: Path) -> list[Path]:
    """Write FORMULA.cell for each formula. Raises UserError for what is no formula or too large a cell."""
    from gnome_core.compositions.packed import parse_formulas
    from gnome_core.generation.airss import seed_cell

    try:
        keys = _keys(parse_formulas(formulas))
        seeds = {formula_of_composition(key): seed_cell(key, config.random_search) for key in keys}
    except ValueError as error:
        raise UserError(str(error)) from None
    check_output(folder, folder=True)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{formula}.cell" for formula in seeds]
    for path, text in zip(paths, seeds.values(), strict=True):
        write_file(path, text.encode())
    return paths


def _elements(config: GenerationConfig) -> tuple[int, ...]:
    if config.compositions.formulas:
        return ()
    if config.elements is None:
        raise UserError("which elements? name them: --elements Li,Si,O, or generation.elements in round.toml")
    try:
        return config.allowed_numbers([])
    except ValueError as error:
        raise UserError(str(error)) from None
