"""What can be known before 10^5 jobs run: which potentials the library lacks, which are known to be poor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dft.jobs.engine import Engine
from gnome_core.compositions.formulas import SYMBOLS


@dataclass(frozen=True)
class Preflight:
    """library: what is wrong with the library as a whole, or "". missing: element -> what it lacks and the remedy.
    poor: element -> why its potential is doubtful."""

    library: str
    missing: Mapping[str, str]
    poor: Mapping[str, str]

    @property
    def lacking(self) -> frozenset[str]:
        """Elements whose jobs cannot run; none while there is no library here, since jobs may run elsewhere."""
        return frozenset() if self.library else frozenset(self.missing)

    def messages(self) -> list[str]:
        if self.library:
            return [self.library, *self.poor.values()]
        return [*self.missing.values(), *self.poor.values()]


def preflight(engine: Engine, numbers: Iterable[int]) -> Preflight:
    """Look each element up once."""
    symbols = [SYMBOLS[z] for z in sorted(set(numbers))]
    library = engine.library_problem()
    lacking = {} if library else {symbol: engine.missing(symbol) for symbol in symbols}
    doubts = {symbol: engine.doubt(symbol) for symbol in symbols}
    return Preflight(
        library or "",
        {symbol: problem for symbol, problem in lacking.items() if problem},
        {symbol: doubt for symbol, doubt in doubts.items() if doubt},
    )
