"""What the ensemble said against what was evaluated: hits, errors, spread."""

from __future__ import annotations

from typing import Any

from pipelines.report import plots
from pipelines.report.labels import count, milli, number
from pipelines.report.sections.elements import Page, Table, gain_text, share_text
from pipelines.report.summary import curses, element_residuals, gain, hits_together, novel_shares, over_all


def hit_rate(page: Page) -> dict[str, Any]:
    """Hits of the model's choices against chance's."""
    if not page.rounds:
        return {"table": None}
    header = ("Round", "Hit rate, model", "Hit rate, random", "Gain", "Precision", "Failed evaluations")
    rows = [
        [
            str(r.round),
            share_text(r.model),
            share_text(r.random),
            gain_text(r.gain),
            share_text(r.precision),
            count(r.n_failed),
        ]
        for r in page.rounds
    ]
    if len(rows) > 1:
        model, random = hits_together(page.rounds)
        precision = over_all(r.precision for r in page.rounds)
        failed = count(sum(r.n_failed for r in page.rounds))
        together = (share_text(model), share_text(random), gain_text(gain(model, random)), share_text(precision))
        rows.append(["all", *together, failed])
    return {
        "figure": page.figure(
            "hit-rate", plots.hit_rates(page.rounds), "Hit rate and precision by round against random"
        ),
        "table": Table("Hits of evaluated crystals (95 % interval)", header, rows, numeric={1, 2, 3, 4, 5}),
    }


def accuracy(page: Page) -> dict[str, Any]:
    """Predicted against evaluated energies; how training went."""
    if not page.rounds:
        return {"table": None}
    figures = [
        page.figure(
            "parity", plots.parity(page.data, page.rounds), "Predicted against evaluated formation energies, by round"
        )
    ]
    if page.data.members:
        caption = "Validation error of each ensemble member after training"
        figures.append(page.figure("members", plots.member_errors(page.data), caption))
    if page.data.curves:
        caption = "Training of each ensemble member: loss (lines) and validation error (diamonds) by epoch"
        figures.append(page.figure("curves", plots.learning_curves(page.data), caption))
    residuals = element_residuals(page.data)
    caption = "Errors of the predictions by element, of all rounds; a crystal counts with each of its elements"
    figures.append(page.figure("elements", plots.element_errors(residuals), caption))
    distance = plots.error_against_distance(page.data, novel_shares(page.data))
    caption = (
        "Errors against how many atoms would have to be other elements to make a composition known before the round"
    )
    figures.append(page.figure("distance", distance, caption))
    header = ("Round", "MAE (meV/atom)", "Mean error (meV/atom)")
    rows = [[str(r.round), milli(r.mae, 1), milli(r.bias, 1)] for r in page.rounds]
    table = Table("Ensemble median minus evaluation", header, rows, numeric={1, 2})
    return {"figures": figures, "table": table, "potentials": _potentials(page), "curse": _winners_curse(page)}


def _potentials(page: Page) -> Table | None:
    if not page.data.potentials:
        return None
    header = ("Round", "From", "Frames", "Validated by", "Energy (meV/atom)", "Forces (meV/Å)", "Flagged")
    rows = []
    for round_, figures in page.data.potentials:
        first = figures.members[0]
        frames = [count(first[name]) for name in ("n_train", "n_val")]
        errors = [milli(first[name] if first["n_val"] else float("nan"), 1) for name in ("energy_mae", "force_mae")]
        rows.append([str(round_), first["start"], *frames, *errors, count(figures.flagged)])
    caption = "Potentials: mean absolute errors of each round's first, and frames on which the committee disagrees"
    return Table(caption, header, rows, numeric=range(2, len(header)))


def _winners_curse(page: Page) -> Table:
    found = curses(page.data)
    header = ["Round", "Chosen by the models, evaluated", "Chosen at random, evaluated"]
    header += [f"On the hull, by {judge}" for judge in found[0].judges]
    rows = [
        [str(curse.round), *(milli(rise, 1) for rise in (curse.model, curse.random, *curse.judges.values()))]
        for curse in found
    ]
    return Table("The winner's curse (meV/atom)", header, rows, numeric=range(1, len(header)))


def calibration(page: Page) -> dict[str, Any]:
    """Whether the ensemble's spread tells its error."""
    if not page.rounds:
        return {"table": None}
    header = ("Round", "Errors inside the IQR (50 % expected)", "Rank correlation of |error| and IQR")
    rows = [
        [str(r.round), number(100 * r.inside_iqr) + " %", number(r.calibration.rank_correlation, 2)]
        for r in page.rounds
    ]
    covered = page.figure(
        "coverage",
        plots.coverage(page.rounds),
        "Coverage of the ensemble's intervals: below the dashed line it is too sure of itself",
    )
    spread = page.figure(
        "spread",
        plots.error_against_spread(page.data, page.rounds),
        "Absolute error against the ensemble's spread, one point an evaluated crystal",
    )
    last = page.rounds[-1]
    return {
        "meaning": _meaning(last.round, last.inside_iqr),
        "figures": [covered, spread],
        "table": Table("Does the spread tell the error?", header, rows, numeric={1, 2}),
    }


def _meaning(round_: int, inside: float) -> str:
    """What a coverage of the interquartile range says, in a sentence."""
    if inside != inside:
        return ""
    share = f"{number(100 * inside)} % of the errors in place of 50 %"
    held = f"In round {round_} the ensemble's interquartile range held {share}"
    if inside < 0.4:
        return f"{held}: it is too sure of itself, and its ± is to be read as less than the error to expect."
    if inside > 0.6:
        return f"{held}: it is less sure than it could be."
    return f"{held}: its spread can be taken for its error."
