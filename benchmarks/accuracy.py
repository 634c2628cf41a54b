"""How accurate the energy models are: python benchmarks/accuracy.py [--quick] [--parts ...] [--page docs/accuracy.md]

On two cores, from the sets in ../shared/data (or in the folder that GNOME_DATA names). Its parts:

shipped. The shipped ensembles on formulas they never trained on, beside the published out-of-fold predictions of other
   models for the same rows; how much of the errors their interquartile range holds, before and after calibration on
   the other half of the rows.
oqmd. A compositional model trained on the official validation split, tested on the official test split beside
   models that trained on the official training split, which is several times larger.
scaling. Error against training-set size over two decades, with a power law; the structural model also on random
   structures (`generation/random_search.py`) evaluated by CHGNet, unlike anything it trained on.
starts. Where a round's members may start: from nothing, from the shipped ones, from the last round's.

--page writes the tables and a picture of the parts that were run. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import data_file
from pymatgen.core import Composition

from dft.evaluators.chgnet import CHGNetEvaluator
from gnome_core.analysis.scaling import PowerLaw, fit_power_law
from gnome_core.caches import cache_folder
from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import embedded_entries
from gnome_core.crystals.split import is_train, is_withheld
from gnome_core.ensembles.calibration import iqr_factor
from gnome_core.ensembles.ensemble import EnsembleModel, median_and_iqr
from gnome_core.ensembles.rows import Rows, labelled_rows
from gnome_core.generation.config import CompositionConfig, RandomSearchConfig
from gnome_core.generation.enumeration import compositions, n_items
from gnome_core.generation.random_search import make_crystals, random_recipes
from gnome_core.generation.recipe import recipe_rows
from gnome_core.graphs.featurize import GraphTable, compositional_graphs, structural_graphs
from gnome_core.models.config import CompositionalConfig, ModelConfig, StructuralConfig
from gnome_core.models.shipped import Framework, pretrained_members
from gnome_core.potentials.config import RelaxConfig
from gnome_core.training.members.config import TrainingConfig
from gnome_core.training.members.loop import train_members
from gnome_core.units import PLAUSIBLE_E_FORM
from pipelines.evaluation.relaxing import shipped_references
from pipelines.rounds.config import MemberTrainingConfig, load_config

DEMO = Path(__file__).parents[1] / "examples" / "demo.toml"
STRUCTURAL_PEERS = {
    "coNGN": "congn",
    "ALIGNN": "alignn",
    "CGCNN": "cgcnn",
    "CrabNet": "crabnet",
    "RF-Magpie": "rf_magpie",
}
COMPOSITION_PEERS = {"CrabNet": "crabnet_mat2vec", "Roost": "roost", "random forest": "rf"}
PARTS = ("shipped", "oqmd", "scaling", "starts")
OQMD_PEERS = {**COMPOSITION_PEERS, "ElemNet": "elemnet"}


@dataclass(frozen=True)
class Sizes:
    """How much of everything is done."""

    rows: int | None  # scored by the shipped ensembles
    oqmd_rows: int | None
    oqmd_epochs: int
    width: int  # of the networks behind the scaling laws
    structural: tuple[int, ...]  # training-set sizes
    compositional: tuple[int, ...]
    epochs: int  # at the largest size; more at smaller ones, so that the steps fall as the square root of the size
    random: int  # random structures
    steps: int  # evaluations of each
    parts: tuple[str, ...]


FULL = Sizes(
    rows=None,
    oqmd_rows=None,
    oqmd_epochs=20,
    width=64,
    structural=(264, 836, 2_640, 8_360, 26_360),
    compositional=(580, 1_840, 5_830, 18_400, 58_300),
    epochs=8,
    random=200,
    steps=25,
    parts=PARTS,
)
QUICK = Sizes(
    rows=400,
    oqmd_rows=1_500,
    oqmd_epochs=2,
    width=16,
    structural=(40, 160),
    compositional=(40, 160),
    epochs=2,
    random=0,
    steps=0,
    parts=("shipped", "oqmd", "scaling"),
)


def table_of(name: str) -> pa.Table:
    return pq.read_table(data_file(name))


def mae(a: np.ndarray, b: np.ndarray) -> float:
    """meV/atom."""
    return float(1000 * np.abs(a - b).mean())


def spread(values: np.ndarray, n: int | None) -> np.ndarray:
    """At most n of the values, evenly spread."""
    return values if n is None or len(values) <= n else values[np.linspace(0, len(values) - 1, n).astype(int)]


# The shipped ensembles


def shipped(framework: Framework, rows: Rows, limit: int | None) -> tuple[np.ndarray, np.ndarray, dict]:
    """(held-out positions, medians, figures) of the shipped members at the crystals' own volume."""
    held_out = spread(np.flatnonzero([not is_train(formula) for formula in rows.formulas]), limit)
    model = EnsembleModel.load(pretrained_members(framework))
    graphs = rows.take(held_out).graphs(model.cutoff)
    energies = model.energies(graphs, np.arange(len(held_out)), np.ones(len(held_out)))
    median, iqr = median_and_iqr(energies)
    label = rows.e_form[held_out]
    fit, test = np.arange(len(label)) % 2 == 0, np.arange(len(label)) % 2 == 1
    factor = iqr_factor(label[fit], median[fit], iqr[fit])
    error = np.abs(median - label)
    return (
        held_out,
        median,
        {
            "n": len(label),
            "mae": mae(median, label),
            "members": [mae(column, label) for column in energies.T],
            "inside_iqr": float((error[test] <= iqr[test] / 2).mean()),
            "inside_calibrated": float((error[test] <= factor * iqr[test] / 2).mean()),
            "factor": factor,
        },
    )


def structural_accuracy(rows: Rows, limit: int | None) -> dict:
    held_out, median, found = shipped("structural", rows, limit)
    table = table_of("mp_structures")
    at = {id_: row for row, id_ in enumerate(table["id"].to_pylist())}
    own = table.take(pa.array([at[rows.ids[row]] for row in held_out]))
    matched = np.asarray(own["matbench_id"].is_valid()) & ~np.asarray(own["match_ambiguous"].fill_null(True))
    theirs = own["e_form_matbench"].to_numpy()
    found["matched"] = int(matched.sum())
    found["on_matched"] = mae(median[matched], rows.e_form[held_out][matched])
    found["labels_apart"] = mae(theirs[matched], rows.e_form[held_out][matched])
    # Each model against the label of its own snapshot.
    found["peers"] = {
        name: mae(own[f"pred_{column}"].to_numpy()[matched], theirs[matched])
        for name, column in STRUCTURAL_PEERS.items()
    }
    return found


def compositional_accuracy(rows: Rows, limit: int | None) -> dict:
    held_out, median, found = shipped("compositional", rows, limit)
    own = table_of("mp_e_form_compositions")
    at = {id_: row for row, id_ in enumerate(own["formula"].to_pylist())}
    own = own.take(pa.array([at[key] for key in _keys(rows, held_out)]))
    return found | beside(own, median, COMPOSITION_PEERS)


def beside(table: pa.Table, ours: np.ndarray, peers: dict[str, str]) -> dict:
    """Errors of our predictions (n,) and of others' on the rows that all of them predicted, in meV/atom."""
    others = {name: table[f"pred_{column}"].to_numpy() for name, column in peers.items()}
    shared = np.isfinite(np.stack([ours, *others.values()])).all(axis=0)
    label = table["e_form_per_atom"].to_numpy()[shared]
    return {
        "n_beside": int(shared.sum()),
        "on_beside": mae(ours[shared], label),
        "peers": {name: mae(values[shared], label) for name, values in others.items()},
    }


def _keys(rows: Rows, positions: np.ndarray) -> list[str]:
    """Formulas as the sets write them: elements in alphabetical order, every count there."""
    from gnome_core.compositions.formulas import SYMBOLS

    keys = []
    for row in rows.compositions()[positions]:
        row = row // np.gcd.reduce(row)
        keys.append("".join(sorted(f"{SYMBOLS[z]}{row[z]}" for z in np.flatnonzero(row))))
    return keys


# Models trained here


def trained(
    graphs: GraphTable, e_form: np.ndarray, train: np.ndarray, model: ModelConfig, training: TrainingConfig, **more
) -> tuple[EnsembleModel, float]:
    """(one member trained on the rows, CPU seconds)."""
    is_train_row = np.zeros(len(e_form), bool)
    is_train_row[train] = True
    with tempfile.TemporaryDirectory() as out:
        start = time.process_time()
        (result,) = train_members(
            graphs, e_form, is_train_row, members=[0], seed=0, out_dir=out, model=model, training=training, **more
        )
        return EnsembleModel.load([result.path]), time.process_time() - start


def error_of(model: EnsembleModel, graphs: GraphTable, rows: np.ndarray, e_form: np.ndarray) -> float:
    return mae(model.energies(graphs, rows, np.ones(len(rows)))[:, 0], e_form[rows])


def counts_of(formulas: Sequence[str]) -> np.ndarray:
    """(n, 95) atoms of each element in formulas."""
    counts = np.zeros((len(formulas), N_COLUMNS))
    for row, formula in zip(counts, formulas, strict=True):
        for element, amount in Composition(formula).items():
            row[element.Z] = amount
    return counts


def oqmd(sizes: Sizes) -> dict:
    table = table_of("oqmd_formation_enthalpy")
    table = table.filter(pc.less_equal(pc.abs(table["e_form_per_atom"]), PLAUSIBLE_E_FORM))
    parts = {}
    for split in ("val", "test"):
        own = table.filter(pc.equal(table["split"], split))
        own = own.take(pa.array(spread(np.arange(len(own)), sizes.oqmd_rows)))
        parts[split] = own, counts_of(own["formula"].to_pylist())
    n_train = len(parts["val"][0])
    graphs = compositional_graphs(np.concatenate([counts for _, counts in parts.values()]))
    e_form = np.concatenate([own["e_form_per_atom"].to_numpy() for own, _ in parts.values()])
    training = TrainingConfig(epochs=sizes.oqmd_epochs, batch_size=128, volume_jitter=0.0, validate_every=1_000)
    # The rows that do not train validate once, at the end: nothing is chosen by them.
    model, seconds = trained(graphs, e_form, np.arange(n_train), CompositionalConfig(), training)
    rows = np.arange(n_train, len(e_form))
    predicted = model.energies(graphs, rows, np.ones(len(rows)))[:, 0]
    found = {"n_train": n_train, "n": len(rows), "cpu_s": seconds, "mae": mae(predicted, e_form[rows])}
    return found | beside(parts["test"][0], predicted, OQMD_PEERS)


def scaling(rows: Rows, framework: Framework, sizes: Sizes, unlike: tuple[list[Crystal], np.ndarray] | None) -> dict:
    """Errors on held-out formulas, and on crystals unlike those (with labels), by training-set size."""
    model = StructuralConfig(width=sizes.width) if framework == "structural" else CompositionalConfig(width=sizes.width)
    wanted = sizes.structural if framework == "structural" else sizes.compositional
    train = np.random.default_rng(0).permutation(np.flatnonzero([is_train(formula) for formula in rows.formulas]))
    test = spread(np.flatnonzero([not is_train(formula) for formula in rows.formulas]), 2_000)
    used = np.concatenate([train[: max(wanted)], test])
    graphs, e_form = rows.take(used).graphs(model.cutoff), rows.e_form[used]
    test_rows = np.arange(len(used) - len(test), len(used))
    found = []
    for size in [min(n, len(used) - len(test)) for n in wanted]:
        epochs = round(sizes.epochs * (max(wanted) / size) ** 0.5)
        jitter = 0.1 if framework == "structural" else 0.0
        training = TrainingConfig(
            epochs=epochs, batch_size=64, volume_jitter=jitter, validate_every=1_000, checkpoint_every=10**9
        )
        member, seconds = trained(graphs, e_form, np.arange(size), model, training)
        row = {"n": size, "epochs": epochs, "cpu_s": seconds, "mae": error_of(member, graphs, test_rows, e_form)}
        if unlike is not None:
            crystals, labels = unlike
            table = structural_graphs(crystals, model.cutoff)
            row["mae_unlike"] = error_of(member, table, np.arange(len(crystals)), labels)
        found.append(row)
        print(f"  {framework}, {size} rows: {row}", flush=True)
    n = np.array([row["n"] for row in found])
    laws = {"mae": law_of(n, found, "mae")}
    if unlike is not None:
        laws["mae_unlike"] = law_of(n, found, "mae_unlike")
    return {"rows": found, "laws": laws}


def law_of(n: np.ndarray, found: Sequence[dict], name: str) -> dict | None:
    law: PowerLaw | None = fit_power_law(n, np.array([row[name] for row in found]))
    return None if law is None else {"exponent": law.exponent, "error": law.exponent_error, "factor": law.factor}


def random_structures(n: int, steps: int) -> tuple[list[Crystal], np.ndarray]:
    """n random crystals of compositions that obey the relaxed rule, after so many steps of relaxation by
    CHGNet, with their formation energies, eV/atom. Kept in the user's cache, since they cost minutes."""
    path = cache_folder() / f"random-{n}-{steps}.parquet"
    if not path.exists():
        elements = [3, 8, 9, 11, 12, 13, 14, 16, 17, 19, 20, 22, 26, 29, 30, 38, 39, 50, 51, 56]
        config = CompositionConfig(max_counts=(4, 3), max_atoms=6)
        found = np.concatenate(list(compositions(0, n_items(config, elements), config, elements)))
        chosen = np.random.default_rng(0).permutation(found)[: n + n // 4]
        settings = RandomSearchConfig(structures=1, volume_factors=(0.8, 1.0), max_formula_units=1, max_sites=6)
        made = [crystal for crystal in make_crystals(recipe_rows(random_recipes(chosen, settings, 0))) if crystal][:n]
        judge = CHGNetEvaluator(RelaxConfig(fmax=0.05, max_steps=steps))
        outcomes = judge.evaluate(made)
        frames = [outcome.frames[-1] for outcome in outcomes if outcome.frames]
        table = shipped_references(judge.scale)
        assert table is not None
        per_atom = np.array([frame.energy / frame.crystal.n_sites for frame in frames])
        crystals = [frame.crystal for frame in frames]
        e_form = table.formation_energy_per_atom([crystal.numbers for crystal in crystals], per_atom)
        good = np.flatnonzero(np.abs(e_form) <= PLAUSIBLE_E_FORM)
        schema = pa.schema([*CRYSTAL_FIELDS, pa.field("e_form_per_atom", pa.float64())])
        batch = record_batch(
            schema, [str(row) for row in good], [crystals[row] for row in good], e_form_per_atom=e_form[good]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_batches([batch]), path)
    table = pq.read_table(path)
    return crystals_from_batch(table), table["e_form_per_atom"].to_numpy()


def starts() -> list[dict]:
    """One member on the demo's part of the embedded snapshot from three starts; the last round's knew four fifths."""
    entries = embedded_entries(load_config(str(DEMO)).snapshot_elements)
    entries = entries.filter(pa.array([not is_withheld(system) for system in entries["chemsys"].to_pylist()]))
    graphs = structural_graphs(crystals_from_batch(entries))
    e_form = entries["e_form_per_atom"].to_numpy()
    held_out = np.array([not is_train(formula) for formula in entries["formula"].to_pylist()])
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    settings, model = MemberTrainingConfig(), StructuralConfig()
    pretrained = pretrained_members("structural")[0]
    found = []

    def measure(name: str, start: object, fresh: bool, rows: np.ndarray) -> None:
        training = settings.settings() if fresh else settings.of_round(1)
        member, seconds = trained(graphs, e_form, rows, model, training, init_from=[start])
        found.append(
            {"start": name, "epochs": training.epochs, "cpu_s": seconds, "mae": error_of(member, graphs, test, e_form)}
        )
        print(f"  {found[-1]}", flush=True)

    measure("nothing", None, True, train)
    measure("the shipped member", pretrained, False, train)
    with tempfile.TemporaryDirectory() as out:
        known = np.zeros(len(e_form), bool)
        known[np.random.default_rng(0).permutation(train)[: 4 * len(train) // 5]] = True
        (last,) = train_members(
            *(graphs, e_form, known), members=[0], seed=1, out_dir=out, model=model, training=settings.of_round(1),
            init_from=[pretrained],
        )  # fmt: skip
        measure("the last round's member", last.path, False, train)
    return found


# The page


def page(found: dict, path: Path) -> None:
    """Tables and a picture of a full run."""
    sections = {
        "shipped": _shipped_section,
        "oqmd": _oqmd_section,
        "scaling": lambda found: _scaling_section(found, path.with_suffix(".png")),
        "starts": _starts_section,
    }
    chosen = [part for part in PARTS if part in found["parts"]]
    only = "" if len(chosen) == len(PARTS) else f" --parts {' '.join(chosen)}"
    intro = f"""# Accuracy of the energy models

Written by `python benchmarks/accuracy.py{only} --page docs/accuracy.md`, {found["cpu_s"]:.0f} CPU seconds on two
cores. Mean absolute errors, meV/atom. Formulas whose hash holds them out were trained on by no model of ours; other
models' predictions are their published ones, from folds that held the row out.
"""
    path.write_text("\n".join([intro, *(sections[part](found) for part in chosen)]))


def _beside(own: float, others: dict[str, float]) -> str:
    rows = sorted([("**this project**", own), *others.items()], key=lambda row: row[1])
    lines = [f"| {name} | {value:.1f} |" for name, value in rows]
    return "\n".join(["| model | MAE |", "|---|---|", *lines])


def _shipped_section(found: dict) -> str:
    s, c = found["structural"], found["compositional"]
    return f"""## The shipped ensembles

Structural, {s["n"]:,} held-out crystals of `mp_structures`: **{s["mae"]:.1f}** (members {min(s["members"]):.1f} to
{max(s["members"]):.1f}). On the {s["matched"]:,} of them that are an entry of matbench_mp_e_form, each model against
the label of its own snapshot (the two labels differ by {s["labels_apart"]:.1f} on average; the others trained on
106,000 crystals, ours on 26,369):

{_beside(s["on_matched"], s["peers"])}

Compositional, {c["n"]:,} held-out formulas of `mp_e_form_compositions`: **{c["mae"]:.1f}** (members
{min(c["members"]):.1f} to {max(c["members"]):.1f}). On the {c["n_beside"]:,} that all models predicted:

{_beside(c["on_beside"], c["peers"])}

**Spread.** The range between the quartiles of four members, one half of the rows to find the factor, the other to
measure: it holds {s["inside_iqr"]:.0%} of the structural errors before and {s["inside_calibrated"]:.0%} after
calibration (factor {s["factor"]:.1f}), {c["inside_iqr"]:.0%} and {c["inside_calibrated"]:.0%} of the compositional
ones (factor {c["factor"]:.1f}); 50 % is ideal.
"""


def _oqmd_section(found: dict) -> str:
    o = found["oqmd"]
    return f"""## OQMD

One compositional member trained on the {o["n_train"]:,} formulas of the official validation split
({o["cpu_s"]:.0f} CPU s): **{o["mae"]:.1f}** on {o["n"]:,} of the test split. The others trained on the official
training split of some 154,000 formulas, which we do not have, so this compares no models; the {o["n_beside"]:,} rows
that all predicted:

{_beside(o["on_beside"], o["peers"])}
"""


def _scaling_section(found: dict, picture: Path) -> str:
    draw(found, picture)

    def rows(kind: str) -> str:
        return "\n".join(
            f"| {row['n']:,} | {row['epochs']} | {row['mae']:.1f} |"
            + (f" {row['mae_unlike']:.0f} |" if "mae_unlike" in row else "")
            for row in found["scaling"][kind]["rows"]
        )

    def exponent(kind: str, name: str = "mae") -> str:
        law = found["scaling"][kind]["laws"].get(name)
        return "none" if law is None else f"{law['exponent']:.2f} ± {law['error']:.2f}"

    return f"""## Error against training-set size

![Error against training-set size]({picture.name})

Small members (width {FULL.width}, {FULL.epochs} epochs at the largest size, more at smaller ones), so the errors are
those of short trainings; one test set of 2,000 held-out formulas. The random structures ({found["n_random"]} of up to
six atoms, after at most {FULL.steps} steps of relaxation) are labelled by CHGNet, whose scale is not
the training set's: part of that error is the scale's.

| training crystals | epochs | MAE, held-out crystals | MAE, random structures |
|---|---|---|---|
{rows("structural")}

| training formulas | epochs | MAE, held-out formulas |
|---|---|---|
{rows("compositional")}

Power laws, error ~ size^exponent: structural {exponent("structural")}, on random structures
{exponent("structural", "mae_unlike")}, compositional {exponent("compositional")}.
"""


def _starts_section(found: dict) -> str:
    begun = "\n".join(
        f"| {row['start']} | {row['epochs']} | {row['cpu_s']:.0f} | {row['mae']:.1f} |" for row in found["starts"]
    )
    return f"""## Where members start

One member on the demo's part of the embedded snapshot, tested on its held-out formulas; the last round's member knew
four fifths of the crystals.

| start | epochs | CPU s | MAE |
|---|---|---|---|
{begun}
"""


def draw(found: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.4))
    lines = (
        ("structural", "mae", "crystals, held-out formulas", "#3d85c8"),
        ("structural", "mae_unlike", "crystals, random structures", "#e0851b"),
        ("compositional", "mae", "compositions, held-out formulas", "#2a9d74"),
    )
    for kind, name, label, color in lines:
        rows, law = found["scaling"][kind]["rows"], found["scaling"][kind]["laws"].get(name)
        if name not in rows[0]:
            continue
        n, error = np.array([r["n"] for r in rows]), np.array([r[name] for r in rows])
        axes.loglog(n, error, "o", color=color, label=label)
        if law:
            axes.loglog(n, law["factor"] * n ** law["exponent"], color=color, lw=1)
            axes.annotate(f"{law['exponent']:.2f}", (n[-1], law["factor"] * n[-1] ** law["exponent"]),
                          xytext=(6, 0), textcoords="offset points", color=color)  # fmt: skip
    axes.set_xlabel("training set")
    axes.set_ylabel("mean absolute error (meV/atom)")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def rounded(value: object) -> object:
    """The figures to four significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few hundred rows of each, seconds of training")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="only these")
    parser.add_argument("--page", type=Path, help="write the tables to this Markdown file and a picture beside it")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    sizes, start = QUICK if options.quick else FULL, time.process_time()
    parts = options.parts or sizes.parts
    found: dict = {"benchmark": "accuracy", "parts": list(parts)}
    if {"shipped", "scaling"} & set(parts):
        crystals = labelled_rows(str(data_file("mp_structures")), "structural", "holdout-v1")
        formulas = labelled_rows(str(data_file("mp_e_form_compositions")), "compositional", "holdout-v1")
    if "shipped" in parts:
        found["structural"] = structural_accuracy(crystals, sizes.rows)
        found["compositional"] = compositional_accuracy(formulas, sizes.rows)
        for kind in ("structural", "compositional"):
            print(f"{kind}: {rounded(found[kind])}", flush=True)
    if "oqmd" in parts:
        found["oqmd"] = oqmd(sizes)
        print(f"OQMD: {rounded(found['oqmd'])}", flush=True)
    if "scaling" in parts:
        unlike = random_structures(sizes.random, sizes.steps) if sizes.random else None
        found["n_random"] = len(unlike[0]) if unlike else 0
        found["scaling"] = {
            "compositional": scaling(formulas, "compositional", sizes, None),
            "structural": scaling(crystals, "structural", sizes, unlike),
        }
    if "starts" in parts:
        found["starts"] = starts()
    found["cpu_s"] = time.process_time() - start
    if options.page:
        page(found, options.page)
    print(json.dumps(rounded(found)))


if __name__ == "__main__":
    main()
