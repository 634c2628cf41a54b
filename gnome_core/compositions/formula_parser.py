"""Chemical formulas as people write them, read exactly; what would have to be guessed is refused."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER, NUMBERS, Composition
from gnome_core.errors import GnomeError

MAX_ATOMS = 1_000_000  # of the whole-number formula that fractional amounts make
MAX_DENOMINATOR = 12  # of fractions that decimals such as 0.333 stand for
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_SEPARATORS = "·•∙⋅*"
_MOLECULE = r"\(?(?:H2O|D2O|NH3|HF|HCl)\)?"
# The dot before "2H2O" at the end, or before another such part.
_ADDUCT = re.compile(rf"\.(?=(?:[1-9]\d*|\d+\.\d+){_MOLECULE}(?:[.{_SEPARATORS}]|$))")
_AMOUNT = re.compile(r"\d+(?:\.\d+)?")


class BadFormula(GnomeError, ValueError):
    """Text that is no formula. `reason`: bad_formula or unknown_element."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def parse_formula(text: str) -> dict[int, Fraction]:
    """Amounts by atomic number: "Fe2O3", "Ca(OH)2", "Li0.5CoO2", "CaSO4.2H2O", "CuSO4·5H2O", "Na2 Cl2", "LiD".

    Decimals are exact, except that three or more stand for the fraction up to twelfths that they round (0.333 is 1/3).
    D is hydrogen. A dot is decimal between digits, unless water, ammonia or a hydrogen halide follows: "O4.2H2O".
    Raises BadFormula, among others for unknown amounts (x), charges, and numbers after a blank.
    """
    words = text.split()
    if not words or any(word[0].isdigit() for word in words[1:]):
        raise _bad(text, "write one as Li15Si4")
    joined = "".join(words)
    split = _ADDUCT.sub(lambda match: match[0] if _is_small(joined[: match.start()]) else "·", joined)
    split = re.sub(r"\.(?!\d)", "·", split)
    amounts: dict[int, Fraction] = {}
    for part in re.split(f"[{_SEPARATORS}]", split):
        number = _AMOUNT.match(part)
        factor = _amount(number[0]) if number else Fraction(1)
        held, end = _group(part, number.end() if number else 0, text, "")
        if not held or end != len(part) or factor == 0:
            raise _bad(text, "write one as Li15Si4")
        for z, amount in held.items():
            amounts[z] = amounts.get(z, Fraction(0)) + factor * amount
    return amounts


def composition_of(text: str) -> Composition:
    """The reduced composition ((Z, count), ...), Z ascending, whole numbers that hold all amounts of the formula."""
    amounts = parse_formula(text)
    scale = math.lcm(*(amount.denominator for amount in amounts.values()))
    counts = {z: int(amount * scale) for z, amount in amounts.items()}
    divisor = math.gcd(*counts.values())
    if sum(counts.values()) // divisor > MAX_ATOMS:
        raise _bad(text, f"its amounts make a formula of more than {MAX_ATOMS:,} atoms; round them")
    return tuple((z, count // divisor) for z, count in sorted(counts.items()))


def _is_small(before: str) -> bool:
    """Whether the digits before a dot are 0 or 1, which nobody writes as a subscript: the dot is decimal."""
    digits = re.search(r"\d*$", before)
    return digits is not None and digits[0] in ("0", "1")


def _amount(text: str) -> Fraction:
    exact = Fraction(text)
    decimals = len(text.partition(".")[2])
    rounded = exact.limit_denominator(MAX_DENOMINATOR)
    return rounded if decimals >= 3 and abs(rounded - exact) * 2 * 10**decimals <= 1 else exact


def _group(part: str, start: int, text: str, closing: str) -> tuple[dict[int, Fraction], int]:
    """Amounts from `start` up to the closing bracket, or the end, and where that is."""
    held: dict[int, Fraction] = {}
    decimal: set[int] = set()  # elements with an amount such as 2.2
    position = start
    while position < len(part) and part[position] != closing:
        if part[position] in _PAIRS:
            inner, end = _group(part, position + 1, text, _PAIRS[part[position]])
            if not inner or end >= len(part):
                raise _bad(text, "its brackets do not close")
            end += 1
        else:
            symbol = re.compile(r"[A-Z][a-z]?").match(part, position)
            if not symbol:
                raise _bad(text, "write one as Li15Si4")
            z = 1 if symbol[0] == "D" else NUMBERS.get(symbol[0], 0)
            if not 1 <= z <= MAX_ATOMIC_NUMBER:
                message = f"{text!r} holds {symbol[0]!r}, none of the elements 1..{MAX_ATOMIC_NUMBER}; correct it"
                raise BadFormula("unknown_element", message)
            if z in decimal:
                raise _bad(text, "the dot may be a decimal or a multiplication; write the part after it in brackets")
            inner, end = {z: Fraction(1)}, symbol.end()
        number = _AMOUNT.match(part, end)
        factor = _amount(number[0]) if number else Fraction(1)
        if factor == 0:
            raise _bad(text, "an amount is 0; leave the element out")
        if number and "." in number[0] and factor >= 2:
            decimal.update(inner)
        for z, amount in inner.items():
            held[z] = held.get(z, Fraction(0)) + factor * amount
        position = number.end() if number else end
    return held, position


def _bad(text: str, remedy: str) -> BadFormula:
    return BadFormula("bad_formula", f"{text!r} is no formula; {remedy}")
