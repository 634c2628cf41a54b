"""How often a potential's molecular dynamics calls superionic what reference dynamics does (GNoME, Fig. 3a)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.analysis.diffusion import SUPERIONIC
from gnome_core.analysis.result import Analysis

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("formula", pa.string()),
        pa.field("ion", pa.string()),
        pa.field("reference_conductivity", pa.float64()),
        pa.field("conductivity", pa.float64()),  # null without an answer
        pa.field("reference_superionic", pa.bool_()),
        pa.field("superionic", pa.bool_()),  # null without an answer
        pa.field("verdict", pa.string()),
    ],
    metadata={"unit.reference_conductivity": "mS/cm", "unit.conductivity": "mS/cm"},
)


def analyse(
    references: pa.Table,
    conductivity: Sequence[float | None],
    superionic: Sequence[bool | None],
    verdict: Sequence[str],
) -> Analysis:
    """The classification of n materials beside their references, all at 1,000 K.

    references: id, formula, ion, conductivity (mS/cm). conductivity: mS/cm of the potential; superionic: what it says,
    None where its run says nothing, as of a melt; verdict: in words. The error is of those with an answer.
    """
    reference = references["conductivity"].to_numpy()
    truth, answers = reference > SUPERIONIC, list(superionic)
    table = pa.table(
        {
            **{name: references[name] for name in ("id", "formula", "ion")},
            "reference_conductivity": reference,
            "conductivity": pa.array(conductivity, pa.float64()),
            "reference_superionic": truth,
            "superionic": pa.array(answers, pa.bool_()),
            "verdict": pa.array(verdict, pa.string()),
        }
    ).cast(SCHEMA)
    answered = np.array([answer is not None for answer in answers], bool)
    said = np.array([answer is True for answer in answers], bool)
    wrong = answered & (said != truth)
    both = table.filter(pc.and_(pa.array(answered), pc.greater(table["conductivity"], 0)))
    ratio = np.log10(both["conductivity"].to_numpy() / both["reference_conductivity"].to_numpy()) if len(both) else []
    return Analysis(
        "superionic-agreement",
        "Superionic by a potential and by its reference",
        {"materials": table},
        {
            "materials": len(table),
            "superionic by the reference": int(truth.sum()),
            "with an answer": int(answered.sum()),
            "classification error": float(wrong.sum() / answered.sum()) if answered.any() else None,
            "called superionic, and are not": int((wrong & said).sum()),
            "superionic, and missed": int((wrong & ~said).sum()),
            "median |log10| of the conductivities' ratio": float(np.median(np.abs(ratio))) if len(ratio) else None,
        },
        (f"Superionic: above 10^{np.log10(SUPERIONIC):.2f} mS/cm at 1,000 K, of tracer diffusion.",),
    )
