"""Choose the elemental references, make the files that hold them, and check them against published energies:

    python tools/element_references.py EVALUATOR ELEMENT_REFERENCES.parquet MP_STRUCTURES.parquet MP_STABLE.parquet

EVALUATOR: chgnet, chgnet-r2scan, nequix-oam-1 ... ELEMENT_REFERENCES: polymorphs of the elements (set, element,
energy_per_atom_ev, lattice, numbers, frac_coords); rows of set MP-PBE are relaxed, those of the evaluator's functional
say what it should give. MP_STRUCTURES: crystals with published formation energies (id, lattice, numbers, frac_coords,
e_form_per_atom). MP_STABLE: formation energies of a later generation of labels (id, e_form_per_atom).

Polymorphs near the lowest in PBE are relaxed by the evaluator, and the lowest of them and of the present file becomes
the element's row of gnome_core/data/elements.parquet on the evaluator's scale. In gnome_core/data/snapshot.parquet,
where it is on that scale, entries with elements whose reference has changed get their formation energies anew, the new
references join, and entries that gnome_core.stability.plausible refuses leave; all other rows stay as they are.
docs/references/EVALUATOR.md gets the table of all elements and what is wrong with each; not of r2SCAN evaluators,
as there are no such labels.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.optimize import least_squares

from dft.evaluators.make import make_evaluator
from dft.evaluators.potential import PotentialEvaluator
from dft.tables import job_digest, protocol_json
from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import NUMBERS, SYMBOLS
from gnome_core.crystals.arrow import as_entries, crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.writers import write_snapshot
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.potential import IsolatedAtom, UnknownElement
from gnome_core.potentials.relax import Relaxation, RelaxationFailure
from gnome_core.stability.plausible import implausible, implausible_geometry
from gnome_core.stability.references import ElementalReferences
from gnome_core.units import PLAUSIBLE_E_FORM

ROOT = Path(__file__).parents[1]
DATA = ROOT / "gnome_core" / "data"
PAGES = ROOT / "docs" / "references"

# Polymorphs that are worth relaxing: what PBE has higher than this above the lowest, or in larger cells, is no ground
# state of the evaluator's either.
WINDOW = 0.05  # eV/atom
MAX_SITES = 64
# A relaxation that ends at 0.05 eV/Å leaves up to about 1 meV/atom: less than that is no reason for another reference.
MARGIN = 1e-3  # eV/atom
# So much lower than the lowest in PBE, which it was trained to give, the evaluator's energy is an artefact: fluorine
# comes out 0.11 lower in a cell of 2.6 times the volume of its atoms. Otherwise iodine's 0.06 is the most.
BELOW_PBE = 0.08  # eV/atom
# So much higher, it does not know the ground state: sulfur's rings, where it learnt from small cells.
ABOVE_PBE = 0.25  # eV/atom

_LIST = pa.list_(pa.float64())
STARTS_SCHEMA = pa.schema(
    [("id", pa.string()), ("lattice", _LIST), ("frac_coords", _LIST), ("numbers", pa.list_(pa.int64()))]
)
STARTS = STARTS_SCHEMA.names

PER_ELEMENT = 40  # crystals of each element that the check asks for
CHECK_SITES = 24
NITRIDES = 60
OTHER_ANIONS = {NUMBERS[symbol] for symbol in ("H", "C", "O", "F", "S", "Cl", "Br", "I")}


@dataclass(frozen=True)
class Check:
    """Single points against labels. By element, eV per atom of it: of the formation energies (bias), of what a later
    generation of labels says (labels), and of the element itself (own); how many crystals hold it."""

    bias: dict[int, float]
    labels: dict[int, float]
    own: dict[int, float]
    crystals: dict[int, int]
    errors: np.ndarray  # eV/atom
    both: int  # crystals with labels of two generations

    def rest(self, z: int) -> float:
        """What neither the labels' generation nor the evaluator's energy of the element explains."""
        return self.bias[z] - self.labels.get(z, 0.0) - self.own.get(z, 0.0)


def crystals_of(table: pa.Table) -> list[Crystal]:
    columns = (table[name].to_pylist() for name in ("lattice", "frac_coords", "numbers"))
    return [
        Crystal(np.array(lattice), np.array(frac), numbers) for lattice, frac, numbers in zip(*columns, strict=True)
    ]


def table_of(entries: pa.Table) -> ElementalReferences:
    """Of entries on one scale."""
    energies = np.add(entries["energy_per_atom"].to_numpy(), entries["correction_per_atom"].to_numpy())
    return ElementalReferences.lowest(entries["numbers"], energies, entries["scale"][0].as_py())


def corrected(evaluator: PotentialEvaluator, crystals: Sequence[Crystal], energy_per_atom: np.ndarray) -> np.ndarray:
    """(n,) eV/atom."""
    found = evaluator.corrections(crystals)
    return energy_per_atom if found is None else energy_per_atom + found.per_atom


def evaluate(evaluator: PotentialEvaluator, crystals: Sequence[Crystal]) -> list[Relaxation | RelaxationFailure]:
    """Outcomes in order. Crystals of like size go together: a batch takes as long as its slowest."""
    order = np.argsort([crystal.n_sites for crystal in crystals], kind="stable")
    outcomes: list = [None] * len(crystals)
    for part in np.array_split(order, max(1, len(order) // 60)):
        for row, outcome in zip(part, evaluator.evaluate([crystals[i] for i in part]), strict=True):
            outcomes[row] = outcome
    return outcomes


# The references


def polymorphs(path: str) -> pa.Table:
    """Rows of set MP-PBE, with a column `id`."""
    table = of_set(path, "MP-PBE")
    seen, ids = Counter[str](), []
    for symbol in table["element"].to_pylist():
        seen[symbol] += 1
        ids.append(f"polymorph-{symbol}-{seen[symbol]}")
    return table.append_column("id", pa.array(ids))


def of_set(path: str, name: str) -> pa.Table:
    table = pq.read_table(path)
    return table.filter(pc.equal(table["set"], name))


def lowest_energies(table: pa.Table) -> dict[int, float]:
    """eV/atom by atomic number."""
    lowest: dict[int, float] = {}
    for symbol, energy in zip(table["element"].to_pylist(), table["energy_per_atom_ev"].to_pylist(), strict=True):
        lowest[NUMBERS[symbol]] = min(energy, lowest.get(NUMBERS[symbol], np.inf))
    return lowest


def untrusted(crystal: Crystal, energy_per_atom: float, lowest: dict[int, float]) -> bool:
    """Whether the evaluator extrapolates. lowest: eV/atom in PBE by atomic number."""
    below = lowest.get(int(crystal.numbers[0]), -np.inf) - energy_per_atom
    return implausible_geometry(crystal) is not None or below > BELOW_PBE


def worth_relaxing(table: pa.Table, lowest: dict[int, float]) -> pa.Table:
    numbers = table["numbers"].to_pylist()
    above = table["energy_per_atom_ev"].to_numpy() - np.array([lowest[row[0]] for row in numbers])
    return table.filter(pa.array((above <= WINDOW) & (np.array([len(row) for row in numbers]) <= MAX_SITES)))


def entries_of(
    table: pa.Table,
    outcomes: Sequence[Relaxation | RelaxationFailure],
    evaluator: PotentialEvaluator,
    lowest: dict[int, float],
) -> list[dict]:
    """Rows of the entry schema of the polymorphs that converged and are trusted."""
    rows, protocol = [], protocol_json(evaluator.protocol)
    for id_, start, outcome in zip(table["id"].to_pylist(), crystals_of(table), outcomes, strict=True):
        if isinstance(outcome, RelaxationFailure):
            print(f"{id_}: {outcome.reason}, {outcome.message}", flush=True)
            continue
        crystal = outcome.crystal
        if untrusted(crystal, outcome.energy_per_atom, lowest):
            print(f"{id_}: passed over at {outcome.energy_per_atom:.3f} eV/atom", flush=True)
            continue
        job = job_digest(start, protocol)
        rows.append(row_of_element(id_, crystal, outcome.energy_per_atom, evaluator.scale, job))
    return rows


def row_of_element(id_: str, crystal: Crystal, energy_per_atom: float, scale: str, job: str | None) -> dict:
    """A row of the entry schema."""
    symbol = SYMBOLS[crystal.numbers[0]]
    return {
        "id": id_,
        "lattice": crystal.lattice.ravel().tolist(),
        "frac_coords": crystal.frac_coords.ravel().tolist(),
        "numbers": crystal.numbers.tolist(),
        "formula": symbol,
        "chemsys": symbol,
        "energy_per_atom": energy_per_atom,
        "correction_per_atom": 0.0,
        "e_form_per_atom": 0.0,
        "energy_kind": "total",
        "scale": scale,
        "source": "materials-project/matcalc",
        "round": 0,
        "job": job,
    }


def lowest_rows(today: pa.Table, rows: list[dict], lowest: dict[int, float]) -> pa.Table:
    """Of each element today's row, or a polymorph that lies more than MARGIN below it; by atomic number."""
    chosen = {
        row["numbers"][0]: row
        for row, crystal in zip(today.to_pylist(), crystals_from_batch(today), strict=True)
        if not untrusted(crystal, row["energy_per_atom"], lowest)
    }
    for row in sorted(rows, key=lambda row: row["energy_per_atom"]):
        present = chosen.get(row["numbers"][0])
        if present is None or row["energy_per_atom"] < present["energy_per_atom"] - MARGIN:
            chosen[row["numbers"][0]] = row
    return pa.Table.from_pylist([chosen[z] for z in sorted(chosen)], schema=today.schema)


def known(elements: pa.Table, lowest: dict[int, float]) -> pa.Table:
    """The rows without those more than ABOVE_PBE above the functional's lowest. lowest: eV/atom by atomic number."""
    energies = zip(elements["numbers"].to_pylist(), elements["energy_per_atom"].to_pylist(), strict=True)
    return elements.filter(pa.array([energy - lowest.get(row[0], energy) <= ABOVE_PBE for row, energy in energies]))


def crystals_elsewhere(every: pa.Table, lowest: dict[int, float]) -> pa.Table:
    """The crystals of other scales' references, of elements that the polymorphs lack (ytterbium)."""
    lacking = pa.array([numbers[0] not in lowest for numbers in every["numbers"].to_pylist()], pa.bool_())
    table = every.filter(lacking).select(STARTS)
    return table.set_column(3, "numbers", table["numbers"].cast(pa.list_(pa.int64()))).cast(STARTS_SCHEMA)


def with_published(elements: pa.Table, functional: pa.Table, evaluator: PotentialEvaluator) -> pa.Table:
    """The rows, and for elements that the evaluator knows but answers of none the functional's lowest crystal, with the
    functional's own energy: both are meant to be on one scale."""
    have = {numbers[0] for numbers in elements["numbers"].to_pylist()}
    lowest, rows = lowest_energies(functional), []
    energies = functional["energy_per_atom_ev"].to_pylist()
    for crystal, energy in zip(crystals_of(functional), energies, strict=True):
        z = int(crystal.numbers[0])
        if z in have or energy > lowest[z]:
            continue
        try:
            evaluator.potential.check(crystal)
        except UnknownElement:
            continue
        except IsolatedAtom:  # so far apart that it cannot be relaxed
            pass
        have.add(z)
        rows.append(row_of_element(f"published-{SYMBOLS[z]}", crystal, energy, evaluator.scale, None))
        print(f"{SYMBOLS[z]}: the published {energy:.4f} eV/atom", flush=True)
    return pa.concat_tables([elements, pa.Table.from_pylist(rows, schema=elements.schema)]).take(
        pa.array(np.argsort([*(row[0] for row in elements["numbers"].to_pylist()), *(r["numbers"][0] for r in rows)]))
    )


def relabelled(snapshot: pa.Table, elements: pa.Table) -> pa.Table:
    """The snapshot with the references of `elements` that are lower than its own. Rows without these elements stay."""
    own = table_of(snapshot).energies
    lower = [
        row
        for row in elements.to_pylist()
        if (z := row["numbers"][0]) in own and row["energy_per_atom"] < own[z] - MARGIN
    ]
    if not lower:
        return snapshot
    changed = {row["numbers"][0] for row in lower}
    grown = pa.concat_tables([snapshot, pa.Table.from_pylist(lower, schema=snapshot.schema)]).sort_by("id")
    affected = np.array([not changed.isdisjoint(numbers) for numbers in grown["numbers"].to_pylist()])
    energies = np.add(grown["energy_per_atom"].to_numpy(), grown["correction_per_atom"].to_numpy())
    e_form = table_of(grown).formation_energy_per_atom(grown["numbers"], energies)
    e_form = np.where(affected, e_form, grown["e_form_per_atom"].to_numpy())
    place = grown.schema.get_field_index("e_form_per_atom")
    return grown.set_column(place, grown.schema.field(place), pa.array(e_form))


def plausible(snapshot: pa.Table) -> pa.Table:
    """The entries that a round would take: what no crystal looks like would stand on hulls and become a parent."""
    energies = snapshot["e_form_per_atom"].to_pylist()
    reasons = [implausible(*one) for one in zip(crystals_from_batch(snapshot), energies, strict=True)]
    for id_, reason in zip(snapshot["id"].to_pylist(), reasons, strict=True):
        if reason:
            print(f"{id_}: {reason}", flush=True)
    return snapshot.filter(pa.array([reason is None for reason in reasons]))


# The check


def labelled_compounds(path: str) -> pa.Table:
    """Crystals of two and more elements whose label is no broken one, in the order of their ids' hashes."""
    table = pq.read_table(path, columns=["id", "lattice", "frac_coords", "numbers", "e_form_per_atom"])
    compound = [len(set(numbers)) > 1 for numbers in table["numbers"].to_pylist()]
    table = table.filter(pc.and_(pa.array(compound), pc.less_equal(pc.abs(table["e_form_per_atom"]), PLAUSIBLE_E_FORM)))
    digests = [hashlib.md5(id_.encode()).hexdigest() for id_ in table["id"].to_pylist()]
    return table.take(pa.array(np.argsort(digests)))


def small(table: pa.Table) -> pa.Table:
    return table.filter(pc.less_equal(pc.list_value_length(table["numbers"]), CHECK_SITES))


def sample(compounds: pa.Table) -> pa.Table:
    """The first small compounds until each element has PER_ELEMENT, or there are no more."""
    table, have, rows = small(compounds), Counter[int](), []
    for row, numbers in enumerate(table["numbers"].to_pylist()):
        if min(have[z] for z in set(numbers)) < PER_ELEMENT:
            have.update(set(numbers))
            rows.append(row)
    return table.take(pa.array(rows))


def nitrides(compounds: pa.Table) -> pa.Table:
    """The first NITRIDES small compounds of nitrogen without another anion."""
    table = small(compounds)
    chosen = [7 in numbers and OTHER_ANIONS.isdisjoint(numbers) for numbers in table["numbers"].to_pylist()]
    return table.filter(pa.array(chosen)).slice(0, NITRIDES)


def per_element(counts: np.ndarray, errors: np.ndarray, width: float) -> dict[int, float]:
    """By atomic number, eV per atom of the element: the errors (n,) eV/atom as sums of elements' shares times these.

    Huber's loss: errors beyond `width` eV/atom, of crystals whose label is another phase's or broken, count little.
    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    present = np.flatnonzero(shares.any(axis=0))
    weak = 0.1 * np.eye(len(present))  # an element that hardly any crystal holds stays near zero
    design = np.concatenate([shares[:, present], weak])
    wanted = np.concatenate([errors, np.zeros(len(present))])
    start = np.zeros(len(present))
    found = least_squares(lambda x: design @ x - wanted, start, lambda _: design, loss="huber", f_scale=width)
    return dict(zip(present.tolist(), found.x.tolist(), strict=True))


def check(
    evaluator: PotentialEvaluator,
    references: ElementalReferences,
    compounds: pa.Table,
    stable: pa.Table,
    lowest: dict[int, float],
) -> Check:
    crystals = sample(compounds)
    counts = atom_counts(crystals["numbers"])
    answers = evaluator.potential.evaluate(crystals_of(crystals))
    energies = np.array([answer.energy for answer in answers]) / counts.sum(axis=1)
    energies = corrected(evaluator, crystals_of(crystals), energies)
    labels = crystals["e_form_per_atom"].to_numpy()
    errors = references.formation_energy_per_atom(crystals["numbers"], energies) - labels
    rows = pc.index_in(compounds["id"].cast(pa.string()), value_set=stable["id"].combine_chunks().cast(pa.string()))
    both = compounds.append_column("later", stable["e_form_per_atom"].take(rows)).filter(pc.is_valid(rows))
    moved = both["later"].to_numpy() - both["e_form_per_atom"].to_numpy()
    return Check(
        bias=per_element(counts, errors, 0.1),
        labels=per_element(atom_counts(both["numbers"]), moved, 0.05),
        own={z: lowest[z] - energy for z, energy in references.energies.items() if z in lowest},
        crystals=dict(enumerate((counts > 0).sum(axis=0).tolist())),
        errors=errors,
        both=len(both),
    )


def nitride_errors(
    evaluator: PotentialEvaluator,
    outcomes: Sequence[Relaxation | RelaxationFailure],
    asked: pa.Table,
    references: ElementalReferences,
) -> np.ndarray:
    """Errors of the formation energies of relaxed nitrides, eV/atom; NaN for those that did not converge."""
    energies = np.array([o.energy_per_atom if isinstance(o, Relaxation) else np.nan for o in outcomes])
    energies = corrected(evaluator, [o.frames[-1].crystal for o in outcomes], energies)
    return references.formation_energy_per_atom(asked["numbers"], energies) - asked["e_form_per_atom"].to_numpy()


# The page

ENOUGH = 10  # crystals; of elements with fewer the fit says little
LARGE = 0.1  # eV per atom of the element

PAGE_TEXT = """# Elemental references of {name}

Written by

    python tools/element_references.py {name} {sources}

which also makes the files that hold them ({seconds:.0f} CPU seconds). Formation energies on the scale `{scale}` are
measured against these crystals (`gnome_core/data/elements.parquet`) wherever a snapshot has none of the element
alone{own_snapshot}.

{n_polymorphs} polymorphs from the Materials Project (through matcalc, with PBE energies), at most {window:g} eV/atom
above the element's lowest in PBE and of at most {max_sites} atoms, were relaxed by the evaluator. The reference is
the lowest of them and of the crystal that was there before, which stays unless another one is more than {margin:g}
eV/atom lower. Passed over are crystals that `gnome_core.stability.plausible` refuses, and those that come out more
than {below:g} eV/atom below PBE's lowest: there the evaluator extrapolates (fluorine and phosphorus in blown-up
cells). An element of which nothing is left, or nothing within {above:g} eV/atom of PBE's lowest (id `published-...`),
has the functional's own lowest crystal and energy.

## Nitrides

{n_nitrides} nitrides without other anions (of at most {check_sites} atoms), relaxed: mean absolute error **{mae:.0f}
meV/atom**, mean {mean:+.0f}; {n_failed} did not converge.

## Biases

Single points at the published structures of {n_crystals:,} compounds (at most {check_sites} atoms, taken until each
element has {per_element}; `mp_structures`) against their labels: mean absolute error {error:.0f} meV/atom. *bias*:
these errors as a sum over the elements of one number each times the element's share of the atoms, eV per atom of the
element, fitted with Huber's loss. Two measurements say what it is made of:

- *labels*: the labels are of 2017-18, with the Materials Project's corrections of that time; the evaluator was
  trained on energies with the corrections of 2020 (MP2020), which correct bromides, iodides, selenides, tellurides
  and antimonides too, and sulfides by less. The column is the same fit to the formation energies that MP2020 gives
  {n_both:,} of the same entries minus those of `mp_structures`.
- *own*: the lowest PBE energy of the element minus the evaluator's energy of its reference. Where the evaluator has
  an element too high (germanium, tin, tungsten), all its compounds come out too stable.
- *rest*: bias - labels - own. Large without a bias (neptunium, uranium, plutonium), it says that the later labels
  moved after the evaluator's training data were taken, as far as the fit tells.

{verdict}

| element | reference | atoms | eV/atom | Å^3/atom | crystals | bias | labels | own | rest |
|---|---|---|---|---|---|---|---|---|---|
{rows}

The shipped ensembles learn the Materials Project's labels, and no energy here enters them.
"""


def verdict(found: Check) -> str:
    """Which elements have a bias that is large and not explained."""
    known = [z for z in found.bias if found.crystals[z] >= ENOUGH]
    large = [z for z in known if abs(found.bias[z]) > LARGE]
    open_ = [z for z in large if abs(found.rest(z)) > LARGE]
    names = ", ".join(f"{SYMBOLS[z]} ({found.bias[z]:+.2f}, rest {found.rest(z):+.2f})" for z in open_)
    few = ", ".join(SYMBOLS[z] for z in sorted(found.bias) if z not in known)
    return (
        f"Of {len(known)} elements with at least {ENOUGH} crystals, {len(large)} have a bias beyond {LARGE:g} eV; "
        + (f"not explained to that much: {names}." if open_ else "labels and own explain all of them to that much.")
        + (f" Too few crystals to tell: {few}." if few else "")
    )


def row_of(row: dict, found: Check) -> str:
    crystal = Crystal(np.array(row["lattice"]), np.array(row["frac_coords"]), row["numbers"])
    z, n = int(crystal.numbers[0]), crystal.n_sites
    known = z in found.bias
    columns = (
        *(row["chemsys"], row["id"], str(n), f"{row['energy_per_atom']:.4f}", f"{crystal.volume / n:.1f}"),
        str(found.crystals.get(z, 0)),
        *(f"{values[z]:+.3f}" if known and z in values else "–" for values in (found.bias, found.labels, found.own)),
        f"{found.rest(z):+.3f}" if known else "–",
    )
    return f"| {' | '.join(columns)} |"


def main(name: str, references: str, structures: str, stable: str) -> None:
    began = time.process_time()
    evaluator = make_evaluator(name, RelaxConfig())
    assert isinstance(evaluator, PotentialEvaluator)
    table = polymorphs(references)
    in_pbe = lowest_energies(table)
    chosen = worth_relaxing(table, in_pbe)
    in_r2scan = "r2scan" in evaluator.scale
    functional = of_set(references, "MatPES-r2SCAN" if in_r2scan else "MP-PBE")
    lowest = lowest_energies(functional)
    every, snapshot = (pq.read_table(DATA / file) for file in ("elements.parquet", "snapshot.parquet"))
    starts = pa.concat_tables([chosen.select(STARTS).cast(STARTS_SCHEMA), crystals_elsewhere(every, in_pbe)])
    rows = entries_of(starts, evaluate(evaluator, crystals_of(starts)), evaluator, lowest)
    mine = pc.equal(every["scale"], evaluator.scale)
    elements = lowest_rows(every.filter(mine), rows, lowest)
    if not in_r2scan:  # of which MatPES's energies are of other pseudopotentials, some eV away
        elements = known(elements, lowest)
    elements = with_published(elements, functional, evaluator)
    pq.write_table(
        pa.concat_tables([every.filter(pc.invert(mine)), elements]), DATA / "elements.parquet", compression="zstd"
    )
    embedded = snapshot["scale"][0].as_py() == evaluator.scale
    if embedded:
        write_snapshot(plausible(relabelled(as_entries(snapshot), elements)), DATA / "snapshot.parquet")
    if in_r2scan:
        print(f"{len(elements)} elements written to {DATA}; published labels are PBE's, and check no r2SCAN")
        return
    energies, compounds = table_of(elements), labelled_compounds(structures)
    asked = nitrides(compounds)
    errors = 1e3 * nitride_errors(evaluator, evaluate(evaluator, crystals_of(asked)), asked, energies)
    found = check(evaluator, energies, compounds, pq.read_table(stable), lowest)
    text = PAGE_TEXT.format(
        name=name,
        sources=" ".join(Path(source).name for source in (references, structures, stable)),
        own_snapshot="; the embedded snapshot holds the same" if embedded else "",
        seconds=time.process_time() - began,
        scale=evaluator.scale,
        n_polymorphs=len(chosen),
        window=WINDOW,
        max_sites=MAX_SITES,
        margin=MARGIN,
        below=BELOW_PBE,
        above=ABOVE_PBE,
        n_nitrides=int(np.isfinite(errors).sum()),
        n_failed=int(np.isnan(errors).sum()),
        check_sites=CHECK_SITES,
        mae=np.nanmean(np.abs(errors)),
        mean=np.nanmean(errors),
        n_crystals=len(found.errors),
        per_element=PER_ELEMENT,
        error=1e3 * np.abs(found.errors).mean(),
        n_both=found.both,
        verdict=verdict(found),
        rows="\n".join(row_of(row, found) for row in elements.to_pylist()),
    )
    PAGES.mkdir(exist_ok=True)
    (PAGES / f"{name}.md").write_text(text)
    print(f"{len(elements)} elements written to {DATA}, the check to {PAGES / name}.md")


if __name__ == "__main__":
    main(*sys.argv[1:])
