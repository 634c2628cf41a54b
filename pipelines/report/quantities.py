"""One way of writing each quantity, in whichever table or card of a report it stands: unit, digits, sign."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipelines.report.labels import cell, number


@dataclass(frozen=True)
class Quantity:
    """unit: as it is shown. factor: from the unit in which tables hold it."""

    unit: str
    factor: float
    digits: int


FORMATION = Quantity("eV/atom", 1, 3)
DIFFERENCE = Quantity("meV/atom", 1000, 1)  # distances to a hull, errors, spreads
SHARE = Quantity("%", 100, 1)
POTENTIAL = Quantity("V", 1, 2)
GAP = Quantity("eV", 1, 2)
_STATED = re.compile(r" \((?:m?eV/atom)\)$")
# By the names of columns and the labels of summaries, without their units; energies are held in eV/atom.
_NAMES = (
    (re.compile(r"e_form_per_atom|predicted_e_form|e_form|energy_per_atom"), FORMATION),
    (
        re.compile(
            r"e_above_\w+|\w*mae|\w*rmse|mean absolute error|phase_separation_energy\w*|fitted"
            r"|error at ten times the newest size"
        ),
        DIFFERENCE,
    ),
    (re.compile(r"hit[_ ]rate\W?[\w ]*|precision|recall|accuracy|prevalence|share\W?[\w ,]*|lithium_fraction"), SHARE),
    (re.compile(r"\w+_potential"), POTENTIAL),
    (re.compile(r"band_gap"), GAP),
)


def quantity_of(name: str) -> Quantity | None:
    """Of a column or label; None for counts, texts, and ratios without a unit."""
    if name.endswith("(meV/atom)"):
        return None  # it is in its unit already
    plain = _STATED.sub("", name).lower()
    return next((quantity for pattern, quantity in _NAMES if pattern.fullmatch(plain)), None)


def title(name: str) -> str:
    """A column's name or a label as words, with the unit in which `shown` writes its values."""
    quantity = quantity_of(name)
    plain = _STATED.sub("", name) if quantity else name
    return plain.replace("_", " ") + (f" ({quantity.unit})" if quantity else "")


def shown(name: str, value: object) -> str:
    """A value of that column or label."""
    quantity = quantity_of(name)
    if quantity is None or not isinstance(value, (int, float)) or isinstance(value, bool):
        return cell(value)
    return number(quantity.factor * value, quantity.digits)
