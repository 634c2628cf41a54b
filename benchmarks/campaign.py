"""Campaign study: rounds of the real flywheel on the embedded evaluator, beside random selection at equal budget.

Every framework, arm (models or random) and seed is a store of its own, made by `gnome init` and `gnome round run`;
running the command again goes on where it was stopped. From the stores it writes docs/campaign.md with its pictures:
hit rate, precision, error and stable crystals by round and by number of elements. Settings, the budget of a round among
them, are those of examples/campaign-FRAMEWORK.toml.

    python benchmarks/campaign.py --out campaign [--rounds 6] [--seeds 3] [--frameworks structural compositional]
    python benchmarks/campaign.py --quick        # one small round of four elements, nothing written to docs/
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tomlkit

from gnome_core.analysis import discovery, growth
from gnome_core.crystals.readers import embedded_entries
from gnome_core.models.shipped import Framework
from pipelines.analyses import Inputs
from pipelines.reading.outcomes import evaluated_jobs
from pipelines.store.store import Store

REPO = Path(__file__).parents[1]
DOCS = REPO / "docs"
FRAMEWORKS = get_args(Framework)
BUDGETS = {
    "structural": "{selection[budget]} crystals are evaluated a round and arm.",
    "compositional": "{compositional[budget]} compositions a round and arm are each searched by "
    "{generation[random_search][structures]} random structures; one is a hit if its lowest structure is stable.",
}
ARMS = ("models", "random")
BY_HAND = "## What to make of it"  # what follows it in the page is kept
QUICK = {
    "generation": {"max_recipes_per_parent": 8, "max_sites": 4},
    "model": {"width": 8, "steps": 1},
    "scoring": {"members": 1, "max_candidates": 60},
    "selection": {"threshold": 0.5, "budget": 3},
    "evaluation": {"max_steps": 12, "fmax": 0.3, "batch_size": 4},
    "training": {"first": "scratch", "epochs": 2, "fine_tune_epochs": 1},
}
# Nothing of the random arm depends on its models, so the smallest will do; the candidates are the same.
SMALLEST = {"model": {"width": 4, "steps": 1}, "training": {"first": "scratch", "epochs": 1, "fine_tune_epochs": 1}}
CHEAP = {
    "structural": SMALLEST | {"scoring": {"members": 1}},
    "compositional": {"compositional": SMALLEST | {"members": 1}},
}


@dataclass(frozen=True)
class Campaign:
    framework: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.framework}-{self.arm}-{self.seed}"


def settings(base: dict, campaign: Campaign) -> dict:
    """round.toml of one campaign: all of the budget for the models or for chance."""
    section = "selection" if campaign.framework == "structural" else "compositional"
    by_models = campaign.arm == "models"
    budget = base[section]["budget"]
    own = {
        "framework": campaign.framework,
        "seed": campaign.seed,
        section: {"budget": budget * by_models, "random_baseline": budget * (not by_models)},
    }
    return merged(merged(base, {} if by_models else CHEAP[campaign.framework]), own)


def merged(base: dict, changes: dict) -> dict:
    """A copy of nested settings with some replaced."""
    return base | {
        key: merged(base.get(key, {}), value) if isinstance(value, dict) else value for key, value in changes.items()
    }


def run(campaign: Campaign, out: Path, base: dict, rounds: int, snapshot: str) -> Path:
    """Bring one campaign to its last round, from wherever it is; its store."""
    store = out / campaign.name
    if not (store / "rounds" / "r0000" / "ROUND.json").exists():
        config = out / f"{campaign.name}.toml"
        config.write_text(tomlkit.dumps(settings(base, campaign)))
        gnome("init", str(store), "--snapshot", snapshot, "--config", str(config))
    while (done := len(closed_rounds(store))) <= rounds:
        print(f"{campaign.name}: round {done} of {rounds}", flush=True)
        gnome("round", "run", str(store), "--rounds", "1")
    return store


def closed_rounds(store: Path) -> list[int]:
    opened = Store(str(store))
    return [round_ for round_ in opened.rounds() if opened.is_closed(round_)]


def gnome(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("gnome")), *arguments]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"{' '.join(command)} failed; mend it and run this command again")


def measure(store: Path) -> tuple[list[dict], list[dict], float]:
    """(discovery metrics rows, growth rows, hours of its committed stages) of one campaign."""
    inputs = Inputs(Store(str(store)))
    metrics = discovery.analyse(evaluated_jobs(inputs.store)).tables["metrics"].to_pylist()
    counts = growth.analyse(inputs.hulls).tables["counts"].to_pylist()
    seconds = sum(
        commit.seconds
        for round_ in inputs.store.rounds()
        for stage in inputs.store.storage.children(f"rounds/r{round_:04d}")
        if "." not in stage and (commit := inputs.store.commit(round_, stage))
    )
    return metrics, counts, seconds / 3600


class Results:
    """What all campaigns measured, as means and deviations over seeds."""

    def __init__(self, measured: dict[Campaign, tuple[list[dict], list[dict], float]], rounds: int):
        self.measured, self.rounds = measured, rounds

    @property
    def frameworks(self) -> list[str]:
        return sorted({campaign.framework for campaign in self.measured}, reverse=True)

    def values(self, framework: str, arm: str, group: str, value: str, column: str) -> np.ndarray:
        """(seeds,) one metric of one group of evaluated jobs; NaN where a campaign has none."""
        found = []
        for campaign, (metrics, _, _) in self.measured.items():
            if (campaign.framework, campaign.arm) == (framework, arm):
                rows = [row for row in metrics if (row["group"], row["value"]) == (group, value)]
                found.append(rows[0][column] if rows else np.nan)
        return np.array(found, float)

    def stable(self, framework: str, arm: str, round_: int, elements: int | None = None) -> np.ndarray:
        """(seeds,) new crystals on the hull after a round."""
        return np.array(
            [
                sum(
                    row["stable_new"]
                    for row in counts
                    if row["round"] == round_ and elements in (None, row["elements"])
                )
                for campaign, (_, counts, _) in self.measured.items()
                if (campaign.framework, campaign.arm) == (framework, arm)
            ],
            float,
        )

    def elements(self) -> list[int]:
        return sorted({row["elements"] for _, counts, _ in self.measured.values() for row in counts})

    def hours(self, framework: str) -> float:
        return sum(hours for campaign, (_, _, hours) in self.measured.items() if campaign.framework == framework)


def hit_rate_column(arm: str) -> str:
    return "hit_rate_model" if arm == "models" else "hit_rate_random"


def spread(values: np.ndarray, scale: float = 1.0, digits: int = 1) -> str:
    """Mean ± deviation over seeds; a dash where nothing was measured."""
    values = values[np.isfinite(values)] * scale
    if not len(values):
        return "–"
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def document(results: Results, arguments: argparse.Namespace, bases: dict[str, dict]) -> str:
    rounds = range(1, results.rounds + 1)
    parts = [
        "# A campaign on the embedded evaluator\n",
        f"{arguments.seeds} seeds and {results.rounds} rounds from the snapshot `{arguments.snapshot}`; stable means "
        "on or below the hull of the embedded evaluator. The random arm draws uniformly from the same candidates, as "
        "many a round, in stores of its own. Numbers are means and standard deviations over seeds. Made by\n",
        f"    {command(arguments)}\n",
    ]
    for framework in results.frameworks:
        parts.append(
            f"## {framework.capitalize()} framework\n\n{BUDGETS[framework].format(**bases[framework])} "
            f"Committed stages of all its stores took {results.hours(framework):.1f} hours.\n\n"
            f"![Curves by round](campaign/{framework}.png)\n"
        )
        rows = []
        for r in rounds:
            by = (framework, "models", "round", str(r))
            rows.append(
                [
                    str(r),
                    spread(results.values(*by, "hit_rate_model"), 100),
                    spread(results.values(framework, "random", "round", str(r), "hit_rate_random"), 100),
                    spread(results.values(*by, "precision"), 100),
                    spread(results.values(*by, "mae"), 1000, 0),
                    spread(results.stable(framework, "models", r)),
                    spread(results.stable(framework, "random", r)),
                ]
            )
        header = ["round", "hit rate, models (%)", "hit rate, random (%)", "precision (%)", "MAE (meV/atom)"]
        parts.append(table([*header, "new on the hull, models", "new on the hull, random"], rows) + "\n")
        rows = []
        for k in results.elements():
            cells = [
                spread(results.values(framework, "models", "round, elements", f"{r}, {k}", "hit_rate_model"), 100, 0)
                for r in rounds
            ]
            stable = spread(results.stable(framework, "models", results.rounds, k))
            random = spread(results.values(framework, "random", "elements", str(k), "hit_rate_random"), 100, 0)
            if any(cell != "–" for cell in cells):
                rows.append([str(k), *cells, random, stable])
        header = ["elements", *(f"round {r}" for r in rounds), "random, all rounds", "new on the hull at the end"]
        parts.append(f"Hit rate of the models (%) by number of elements:\n\n{table(header, rows)}\n")
        settings_of = tomlkit.dumps(bases[framework])
        parts.append(f"Settings beside the defaults of `gnome config`:\n\n```toml\n{settings_of}```\n")
    return "\n".join(parts)


def command(arguments: argparse.Namespace) -> str:
    options = f"--rounds {arguments.rounds} --seeds {arguments.seeds} --frameworks {' '.join(arguments.frameworks)}"
    return f"python benchmarks/campaign.py --out campaign {options} --snapshot {arguments.snapshot}"


def draw(results: Results, framework: str, path: Path) -> None:
    """Four panels: hit rate, precision, error and stable crystals by round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rounds = np.arange(1, results.rounds + 1)
    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6.5), constrained_layout=True)

    def line(panel, values: list[np.ndarray], name: str, color: str) -> None:
        seeds = np.array(values)
        panel.plot(rounds, np.nanmean(seeds, axis=1), color=color, marker="o", label=name)
        panel.fill_between(rounds, np.nanmin(seeds, axis=1), np.nanmax(seeds, axis=1), color=color, alpha=0.2, lw=0)

    for arm, color in (("models", "#e0851b"), ("random", "#8a8f98")):
        by_round = [results.values(framework, arm, "round", str(r), hit_rate_column(arm)) for r in rounds]
        line(panels[0, 0], [100 * v for v in by_round], arm, color)
        line(panels[1, 1], [results.stable(framework, arm, r) for r in rounds], arm, color)
    for panel, column, scale in ((panels[0, 1], "precision", 100), (panels[1, 0], "mae", 1000)):
        values = [scale * results.values(framework, "models", "round", str(r), column) for r in rounds]
        line(panel, values, "models", "#e0851b")
    titles = ("hit rate (%)", "precision (%)", "MAE of chosen candidates (meV/atom)", "new crystals on the hull")
    for panel, title in zip(panels.flat, titles, strict=True):
        panel.set(title=title, xlabel="round", xticks=rounds, ylim=(0, None))
        panel.grid(alpha=0.3)
    panels[0, 0].legend()
    panels[1, 1].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def quick_snapshot(folder: Path) -> str:
    """The crystals of at most four sites of Li, Mg and Cu."""
    entries = embedded_entries({"Li", "Mg", "Cu"})
    small = pc.less_equal(pc.list_value_length(entries["numbers"]), 4)
    pq.write_table(entries.filter(small), folder / "snapshot.parquet")
    return str(folder / "snapshot.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small campaign in a temporary folder")
    parser.add_argument("--out", type=Path, default=Path("campaign"), help="folder of the stores")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=FRAMEWORKS)
    parser.add_argument("--snapshot", default="embedded")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        docs, bases = DOCS, {}
        if arguments.quick:
            arguments.out = docs = Path(scratch)
            arguments.rounds, arguments.seeds, arguments.frameworks = 1, 1, ["structural"]
            arguments.snapshot, bases["structural"] = quick_snapshot(Path(scratch)), QUICK
        else:
            for framework in arguments.frameworks:
                bases[framework] = tomllib.loads((REPO / f"examples/campaign-{framework}.toml").read_text())
            arguments.out.mkdir(parents=True, exist_ok=True)
        campaigns = [
            Campaign(framework, arm, seed)
            for seed in range(arguments.seeds)
            for framework in arguments.frameworks
            for arm in ARMS
        ]
        measured = {
            campaign: measure(
                run(campaign, arguments.out, bases[campaign.framework], arguments.rounds, arguments.snapshot)
            )
            for campaign in campaigns
        }
        results = Results(measured, arguments.rounds)
        for framework in results.frameworks:
            draw(results, framework, docs / "campaign" / f"{framework}.png")
        text = document(results, arguments, bases)
        page = docs / "campaign.md"
        kept = page.read_text().partition(BY_HAND) if page.exists() else ("", "", "")
        page.write_text(text + "".join(kept[1:]))
    print(text)
    last = [
        {
            "framework": framework,
            "arm": arm,
            "hit_rate": [
                round(float(np.nanmean(results.values(framework, arm, "round", str(r), hit_rate_column(arm)))), 4)
                for r in range(1, arguments.rounds + 1)
            ],
            "new_on_hull": float(results.stable(framework, arm, arguments.rounds).mean()),
        }
        for framework in results.frameworks
        for arm in ARMS
    ]
    print(json.dumps({"benchmark": "campaign", "minutes": round((time.monotonic() - started) / 60, 1), "arms": last}))


if __name__ == "__main__":
    main()
