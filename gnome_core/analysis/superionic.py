"""A classifier of lithium superionic conductors by composition and cell, fitted to measured conductivities.

Sendek et al. (Energy Environ. Sci. 10, 306, 2017) fitted a logistic regression to forty measured crystals; this one
has the same form and label, and features that published tables of conductivities hold: the composition and the cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from gnome_core.compositions.formula_parser import BadFormula, parse_formula
from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.sources.values import as_number
from gnome_core.crystals.split import is_withheld
from gnome_core.crystals.symmetry import symmetry_dataset
from gnome_core.files import write_file

SUPERIONIC = 1e-4  # S/cm at room temperature
ANIONS = ("H", "N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I")
HALIDES, SOFT = ("F", "Cl", "Br", "I"), ("S", "Cl", "Se", "Br", "Te", "I")
COLUMNS = (
    "true_composition",
    "space_group_number",
    *("a", "b", "c", "alpha", "beta", "gamma"),
    "ionic_conductivity_raw",
    "family",
    "doi",
)
FEATURES = (
    "lithium_per_anion",
    "lithium_density",  # 1/Å^3
    "volume_per_anion",  # Å^3
    "volume_per_atom",  # Å^3
    "anion_electronegativity",  # mean, Pauling
    "cation_electronegativity",  # mean of the framework's, lithium left out
    "soft_anion_share",
    "halide_share",
    "framework_mass",  # mean atomic mass without lithium
    "log_space_group",
    "elements",  # their number: doping, which makes most good conductors
)
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)  # inverse strengths of the L2 penalty that are tried


class SuperionicModel(BaseModel):
    """Logistic regression: probability = 1 / (1 + exp(-(intercept + coefficients . (features - mean) / scale))).

    features, mean, scale, coefficients: one each; training: where they come from and how good they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    threshold_s_per_cm: float
    training: dict[str, Any]

    def probability(self, features: np.ndarray) -> np.ndarray:
        """(n,) chance of conducting above the threshold, of features (n, k)."""
        logit = self.intercept + (features - np.array(self.mean)) / np.array(self.scale) @ np.array(self.coefficients)
        return 1 / (1 + np.exp(-logit))

    def save(self, path: str | Path) -> None:
        write_file(path, (self.model_dump_json(indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: str | Path) -> SuperionicModel:
        """Raises ValueError for a file that is not a model of these features."""
        try:
            model = cls.model_validate_json(Path(path).read_text())
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} is no superionic model ({reason}); `gnome fit-superionic` makes one") from None
        if model.features != FEATURES:
            raise ValueError(f"{path} was fitted to other features; fit it again with `gnome fit-superionic`")
        return model


def composition_features(amounts: Mapping[str, float], volume: float, space_group: int) -> np.ndarray:
    """(k,) FEATURES of a cell that holds `amounts` (symbol -> atoms) in `volume` Å^3.

    Anions are the elements of ANIONS; a cell without them counts its most electronegative framework element as one.
    Raises ValueError for a cell without lithium or without anything else.
    """
    from pymatgen.core import Element

    framework = {symbol: float(n) for symbol, n in amounts.items() if symbol != "Li" and n > 0}
    lithium = float(amounts.get("Li", 0.0))
    if not lithium or not framework:
        raise ValueError("a lithium conductor needs lithium and a framework")
    electronegativity = {symbol: float(Element(symbol).X) for symbol in framework}
    anions = {symbol: n for symbol, n in framework.items() if symbol in ANIONS}
    if not anions:
        most = max(framework, key=lambda symbol: electronegativity[symbol])
        anions = {most: framework[most]}
    cations = {symbol: n for symbol, n in framework.items() if symbol not in anions}
    n_anions, n_atoms = sum(anions.values()), lithium + sum(framework.values())

    def mean_electronegativity(part: Mapping[str, float]) -> float:
        return sum(n * electronegativity[symbol] for symbol, n in part.items()) / sum(part.values())

    mass = sum(n * float(Element(symbol).atomic_mass) for symbol, n in framework.items())
    return np.array(
        [
            lithium / n_anions,
            lithium / volume,
            volume / n_anions,
            volume / n_atoms,
            mean_electronegativity(anions),
            mean_electronegativity(cations or anions),
            sum(n for symbol, n in anions.items() if symbol in SOFT) / n_anions,
            sum(n for symbol, n in anions.items() if symbol in HALIDES) / n_anions,
            mass / sum(framework.values()),
            np.log(space_group),
            len(framework) + 1,
        ]
    )


def crystal_features(crystal: Crystal, symprec: float = 0.01) -> np.ndarray:
    """(k,) FEATURES of a crystal; its space group by moyopy at `symprec` Å (P1 where none is found)."""
    dataset = symmetry_dataset(crystal, symprec)
    space_group = 1 if dataset is None else dataset.number
    numbers, counts = np.unique(crystal.numbers, return_counts=True)
    amounts = {SYMBOLS[z]: float(n) for z, n in zip(numbers, counts, strict=True)}
    return composition_features(amounts, crystal.volume, space_group)


@dataclass(frozen=True)
class Measurements:
    """n measured conductors. features (n, k); superionic (n,) bool; family, doi, chemsys (n,) strings."""

    features: np.ndarray
    superionic: np.ndarray
    family: Sequence[str]
    doi: Sequence[str]
    chemsys: Sequence[str]
    skipped: Mapping[str, int]  # reason -> rows left out


def read_measurements(table: pa.Table) -> Measurements:
    """The usable rows of a table of room-temperature conductivities with the columns COLUMNS (as OBELiX has them).

    Where only an upper bound is known ("<1E-10") it tells the class if it lies below the threshold. Cells may be text;
    rows whose numbers are none ("8.3(1)", a space group's symbol) or whose formula is none are counted as skipped.
    Raises ValueError naming missing columns.
    """
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise ValueError(f"the table of conductivities lacks the columns {', '.join(missing)}")
    kept, labels, skipped = [], [], dict.fromkeys(("no_conductivity", "no_lithium", "bad_cell", "bad_formula"), 0)
    family, doi, chemsys = [], [], []
    for row, record in enumerate(table.select(COLUMNS).to_pylist()):
        raw = str(record["ionic_conductivity_raw"]).strip()
        try:
            conductivity = float(raw.lstrip("<"))
        except ValueError:
            conductivity = np.nan
        if not np.isfinite(conductivity) or (raw.startswith("<") and conductivity > SUPERIONIC):
            skipped["no_conductivity"] += 1
            continue
        try:
            formula = parse_formula(str(record["true_composition"]))
        except BadFormula:
            skipped["bad_formula"] += 1
            continue
        amounts = {SYMBOLS[z]: float(n) for z, n in formula.items()}
        try:
            volume = _volume(*(as_number(record[name]) for name in ("a", "b", "c", "alpha", "beta", "gamma")))
            space_group = as_number(record["space_group_number"]) or 0
        except ValueError:
            volume = space_group = 0
        if not volume > 0 or space_group not in range(1, 231):
            skipped["bad_cell"] += 1
            continue
        try:
            kept.append(composition_features(amounts, volume, int(space_group)))
        except ValueError:
            skipped["no_lithium"] += 1
            continue
        labels.append(conductivity >= SUPERIONIC)
        # A row without a family or a reference is a group of its own.
        family.append(record["family"] or f"row {row}")
        doi.append(record["doi"] or f"row {row}")
        chemsys.append("-".join(sorted(amounts)))
    return Measurements(
        np.array(kept).reshape(-1, len(FEATURES)), np.array(labels, bool), family, doi, chemsys, skipped
    )


def fit_superionic(measured: Measurements, source: str, *, holdout: bool = False) -> SuperionicModel:
    """Fit the model; its penalty is the one with the lowest log loss when whole families are left out in turn.

    source: name of the table, for the record. holdout: leave out the chemical systems that this project withholds
    ("holdout-v1") and record how well the model tells them.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    withheld = np.array([holdout and is_withheld(chemsys) for chemsys in measured.chemsys], bool)
    features, labels = measured.features[~withheld], measured.superionic[~withheld]
    if min(labels.sum(), (~labels).sum()) < 10:
        left_out = ", ".join(f"{n} {why}" for why, n in measured.skipped.items() if n) or "none"
        raise ValueError(
            f"{labels.sum()} superionic and {(~labels).sum()} other conductors; ten of each are needed "
            f"(rows left out: {left_out})"
        )
    groups = {
        name: np.array(values)[~withheld]
        for name, values in (("family", measured.family), ("doi", measured.doi), ("chemsys", measured.chemsys))
    }

    def model(penalty: float):
        return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000))

    def left_out(penalty: float, group: str) -> np.ndarray:
        folds = GroupKFold(min(5, len(set(groups[group]))))
        predicted = cross_val_predict(
            model(penalty), features, labels, groups=groups[group], cv=folds, method="predict_proba"
        )
        return predicted[:, 1]

    penalty = min(PENALTIES, key=lambda penalty: log_loss(labels, left_out(penalty, "family")))
    fitted = model(penalty).fit(features, labels)
    scaler, regression = fitted[0], fitted[1]
    training: dict[str, Any] = {
        "source": source,
        "conductors": len(labels),
        "superionic": int(labels.sum()),
        "skipped": dict(measured.skipped),
        "inverse_penalty": penalty,
        "auc": {group: round(float(roc_auc_score(labels, left_out(penalty, group))), 3) for group in groups},
    }
    if withheld.any():
        chance = fitted.predict_proba(measured.features[withheld])[:, 1]
        training["holdout"] = "holdout-v1"
        training["withheld"] = int(withheld.sum())
        training["auc_withheld"] = round(float(roc_auc_score(measured.superionic[withheld], chance)), 3)
    return SuperionicModel(
        features=FEATURES,
        mean=tuple(scaler.mean_.tolist()),
        scale=tuple(scaler.scale_.tolist()),
        coefficients=tuple(regression.coef_[0].tolist()),
        intercept=float(regression.intercept_[0]),
        threshold_s_per_cm=SUPERIONIC,
        training=training,
    )


def _volume(*cell: float | None) -> float:
    """Å^3 of a cell, three lengths in Å and three angles in degrees; NaN where one is missing."""
    values = np.array(cell, float)  # None is NaN
    x, y, z = np.cos(np.radians(values[3:]))
    return float(values[:3].prod() * np.sqrt(np.maximum(0.0, 1 - x * x - y * y - z * z + 2 * x * y * z)))
