"""What a round on Dataflow costs: python deploy/dataflow/cost.py prints the table of README.md.

The figures, assumptions and prices below are all that goes in; replace them by your own. A test keeps README.md's table
equal to this one.
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR = 3600.0
SIZES = (1e6, 1e8, 1e9)


@dataclass(frozen=True)
class Figures:
    """Ours, per second of one CPU core, each with the command that measured it."""

    recipes: float = 67_195  # generated: benchmarks/generate_stage.py mp_structures.parquet --quick, recipes_per_cpu_s
    expanded: float = 24_321  # recipes made into checked crystals: try_expand of benchmarks/filter.py's 5,000
    graphs: float = 12_161  # built: benchmarks/filter.py, graphs_per_cpu_s
    evaluation: float = 0.552e-3  # s of one member on one graph: the same, ours_cpu_ms
    evaluations: float = 1.6  # of members on a screened candidate: the same, cascade, without the 500 of 20,000 refined
    relaxations: float = 3.1  # of crystals to 0.05 eV/Å: 32 of benchmarks/evaluator.py's, compiled before
    row: float = 178e-6  # s a candidate of names, statistics, Beam and Parquet: benchmarks/pipeline.py, less generation
    shuffled: float = 119.0  # bytes a candidate between steps, generate to select: benchmarks/pipeline.py, largest size


@dataclass(frozen=True)
class Assumptions:
    """What was not measured."""

    yield_: float = 0.5  # candidates scored of recipes generated: new, distinct, possible
    vcpu: float = 0.5  # of a core that a vCPU, half of one with two threads, is worth
    busy: float = 0.8  # share of the time that workers have work: start, stragglers, autoscaling
    memory: float = 4.0  # GB a vCPU (n2-standard)
    disk: float = 50.0 / 8  # GB a vCPU: 50 GB a worker of 8
    evaluated: float = 1_000.0  # crystals that the round relaxes, whatever its size


@dataclass(frozen=True)
class Prices:
    """US dollars, list prices of batch Dataflow in us-central1 as of June 2025: look them up."""

    vcpu: float = 0.056  # an hour
    memory: float = 0.003557  # a GB and hour
    disk: float = 0.000054  # a GB and hour, standard
    shuffle: float = 0.011  # a GB processed


def core_seconds(candidates: float, figures: Figures, assumed: Assumptions) -> dict[str, float]:
    """Seconds of one core, by step, for a round that scores so many candidates."""
    return {
        "generate": candidates / assumed.yield_ / figures.recipes,
        "score": candidates * (1 / figures.expanded + 1 / figures.graphs + figures.evaluations * figures.evaluation),
        "rows": candidates * figures.row,
        "evaluate": assumed.evaluated / figures.relaxations,
    }


def dollars(candidates: float, figures: Figures, assumed: Assumptions, prices: Prices) -> tuple[float, float]:
    """(vCPU hours, US dollars) of that round.

    vCPU h = core s / (vcpu x busy) / 3600; $ = vCPU h x (vCPU + memory + disk prices) + GB shuffled x its price.
    """
    hours = sum(core_seconds(candidates, figures, assumed).values()) / (assumed.vcpu * assumed.busy) / HOUR
    hourly = prices.vcpu + assumed.memory * prices.memory + assumed.disk * prices.disk
    return hours, hours * hourly + candidates * figures.shuffled / 1e9 * prices.shuffle


def table() -> str:
    """The estimate as a Markdown table."""
    figures, assumed, prices = Figures(), Assumptions(), Prices()
    lines = [
        "| candidates scored | core hours: generate, score, rows, evaluate | vCPU hours | US dollars |",
        "|---|---|---|---|",
    ]
    for n in SIZES:
        steps = ", ".join(f"{seconds / HOUR:,.2f}" for seconds in core_seconds(n, figures, assumed).values())
        hours, cost = dollars(n, figures, assumed, prices)
        lines.append(f"| 10^{len(str(int(n))) - 1} | {steps} | {hours:,.0f} | {cost:,.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
