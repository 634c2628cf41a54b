"""What the ensemble said against what was evaluated: hits, errors, spread."""

from __future__ import annotations

from html import escape

import numpy as np

from pipelines.report import plots
from pipelines.report.labels import NOTHING, count, milli, number
from pipelines.report.sections.elements import Page, gain_text, html_table, share_text
from pipelines.report.summary import curses, gain, hits_together, over_all


def hit_rate(page: Page) -> str:
    """Hits of the model's choices against chance's."""
    if not page.rounds:
        return "<p>Nothing has been evaluated yet.</p>"
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
        rows.append(
            [
                "all",
                share_text(model),
                share_text(random),
                gain_text(gain(model, random)),
                share_text(precision),
                failed,
            ]
        )
    return (
        "<p>A hit lies at or below the hull as it was before the round; a failed evaluation is a miss. A "
        "composition that was searched is one candidate, by its lowest structure. Precision: hits among the "
        "evaluated crystals that the ensemble's median put at or below the hull. Bars: 95 % Wilson intervals.</p>"
        + page.figure("hit-rate", plots.hit_rates(page.rounds), "Hit rate and precision by round against random")
        + html_table("Hits of evaluated crystals (95 % interval)", header, rows, numeric={1, 2, 3, 4, 5})
    )


def accuracy(page: Page) -> str:
    """Predicted against evaluated energies; how training went."""
    if not page.rounds:
        return "<p>Nothing has been evaluated yet.</p>"
    figures = page.figure(
        "parity", plots.parity(page.data, page.rounds), "Predicted against evaluated formation energies, by round"
    )
    if page.data.members:
        figures += page.figure(
            "members", plots.member_errors(page.data), "Validation error of each ensemble member after training"
        )
    if page.data.curves:
        figures += page.figure(
            "curves",
            plots.learning_curves(page.data),
            "Training of each ensemble member: loss (lines) and validation error (diamonds) by epoch",
        )
    header = ("Round", "MAE (meV/atom)", "Mean error (meV/atom)")
    rows = [[str(r.round), milli(r.mae, 1), milli(r.bias, 1)] for r in page.rounds]
    return (
        f'<div class="pair">{figures}</div>'
        + html_table("Ensemble median minus evaluation", header, rows, numeric={1, 2})
        + _winners_curse(page)
    )


def _winners_curse(page: Page) -> str:
    found = curses(page.data)
    judges = list(found[0].judges)
    header = ("Round", "Chosen by the models, evaluated", "Chosen at random, evaluated")
    header += tuple(f"On the hull, by {escape(judge)}" for judge in judges)
    rows = [
        [str(curse.round), *(_rise(value) for value in (curse.model, curse.random, *curse.judges.values()))]
        for curse in found
    ]
    return (
        "<p>What is chosen for a low energy is chosen for an error as well: how much higher, on average, energies came "
        "out at the next judge. Of a random choice the rise is the model's bias alone.</p>"
        + html_table("The winner's curse (meV/atom)", header, rows, numeric=set(range(1, len(header))))
    )


def _rise(value: float) -> str:
    return NOTHING if np.isnan(value) else milli(value, 1)


def calibration(page: Page) -> str:
    """Whether the ensemble's spread tells its error."""
    if not page.rounds:
        return "<p>Nothing has been evaluated yet.</p>"
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
    return f'<div class="pair">{covered}{spread}</div>' + html_table(
        "Does the spread tell the error?", header, rows, numeric={1, 2}
    )
