"""What VASP and custodian wrote, or what atomate2 stored of it, as a StepResult; the corrections of its energy."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dft.jobs.engine import OutputError, StepResult
from dft.jobs.outputs import find, read_text
from gnome_core.crystals.convert import from_structure
from gnome_core.potentials.relax import Frame
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_KBAR

# INCAR tags of custodian that change how a state is found, not which: convergence, restarts, parallelism, output.
# fmt: off
HARMLESS = frozenset({
    "ALGO", "IALGO", "ISTART", "ICHARG", "NELM", "NELMIN", "NELMDL", "EDIFF", "AMIX", "BMIX", "AMIN", "AMIX_MAG",
    "BMIX_MAG", "IMIX", "MAXMIX", "INIMIX", "MIXPRE", "TIME", "IBRION", "POTIM", "NSW", "NFREE", "ADDGRID", "ISEARCH",
    "NCORE", "NPAR", "KPAR", "NSIM", "LPLANE", "LSCALAPACK", "LSCAAWARE", "LWAVE", "LCHARG", "LORBIT", "NBANDS",
    "ISYM", "SYMPREC", "NGX", "NGY", "NGZ", "LVHAR", "LVTOT", "LELF",
})
# fmt: on


def read_vasp(folder: Path, bands: bool) -> StepResult:
    """The calculation in a folder: its files, or the task document of a job store. bands: whether it gives a gap.

    Raises OutputError.
    """
    for name in ("task.json", "task.json.gz"):
        if (folder / name).is_file():
            return read_task(json.loads(read_text(folder / name)), folder)
    run = read_vasprun(find(folder, "vasprun.xml"), bands)
    fixes, changed, over = read_custodian(folder)
    magmoms, total = read_moments(folder, run.is_spin)
    # pymatgen takes a relaxation for converged that was stopped before its last permitted step.
    stopped = (
        over and run.parameters["NSW"] > 1 and "reached required accuracy" not in read_text(find(folder, "OUTCAR"))
    )
    failure, message = _failure(run.converged_electronic, run.converged_ionic and not stopped, over, folder)
    return StepResult(
        vasprun_frames(run.ionic_steps),
        failure,
        message,
        magmoms,
        total,
        float(run.eigenvalue_band_properties[0]) if bands else None,
        fixes,
        changed,
        {"hubbards": run.hubbards, "run_type": run.run_type, "titels": list(run.potcar_symbols)},
    )


def read_vasprun(path: Path, bands: bool = False):
    """pymatgen's Vasprun, without what is not used. Raises OutputError for a file that is not whole."""
    from pymatgen.io.vasp.outputs import Vasprun

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run = Vasprun(path, parse_dos=False, parse_eigen=bands, parse_potcar_file=False)
            run.final_structure  # noqa: B018  absent in a run that never came to an ionic step
        except (SyntaxError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            why = str(error) or type(error).__name__
            raise OutputError("truncated_output", f"{path} is no whole vasprun.xml ({why}); run it again") from error
    return run


def vasprun_frames(steps: Sequence[Mapping[str, Any]]) -> list[Frame]:
    """Every ionic step with energy (sigma -> 0), forces and stress. VASP's stress has the opposite sign, in kbar."""
    return [
        Frame(
            number,
            from_structure(step["structure"]),
            float(step["e_0_energy"]),
            np.array(step["forces"], np.float64),
            -np.array(step["stress"], np.float64) / EV_PER_CUBIC_ANGSTROM_IN_KBAR,
        )
        for number, step in enumerate(steps)
        if step.get("forces") is not None and step.get("stress") is not None
    ]


def read_moments(folder: Path, spin: bool) -> tuple[np.ndarray | None, float | None]:
    """(moments of the atoms, moment of the cell) in Bohr magnetons, of the OUTCAR. Raises OutputError."""
    if not spin:
        return None, 0.0
    from pymatgen.io.vasp.outputs import Outcar

    path = find(folder, "OUTCAR")
    try:
        outcar = Outcar(path)
    except (EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise OutputError("truncated_output", f"{path} is no whole OUTCAR ({error}); run the job again") from error
    total = None if outcar.total_mag is None else float(outcar.total_mag)
    return np.array([site["tot"] for site in outcar.magnetization], float) if outcar.magnetization else None, total


def read_custodian(folder: Path) -> tuple[tuple[str, ...], bool, bool]:
    """(corrections in words, whether one changed what is computed, whether the wall time was over)."""
    try:
        log = json.loads(read_text(find(folder, "custodian.json")))
    except OutputError:
        return (), False, False
    except ValueError as error:
        raise OutputError("truncated_output", f"{folder}/custodian.json is damaged ({error})") from error
    corrections = [correction for run in log for correction in run["corrections"]]
    over = any("Walltime reached" in map(str, correction["errors"]) for correction in corrections)
    fixes = tuple(_in_words(correction) for correction in corrections)
    return fixes, any(_changes_settings(correction) for correction in corrections), over


def _in_words(correction: Mapping[str, Any]) -> str:
    errors = "+".join(map(str, correction["errors"]))
    actions = []
    for action in correction["actions"] or []:
        target = action.get("dict") or action.get("file", "")
        for verb, change in action["action"].items():
            what = ", ".join(f"{k} = {v}" for k, v in change.items()) if isinstance(change, dict) else str(change)
            actions.append(f"{target} {verb.removeprefix('_')} {what}")
    return f"{errors}: {'; '.join(actions) or 'nothing'}"


def _changes_settings(correction: Mapping[str, Any]) -> bool:
    for action in correction["actions"] or []:
        if "dict" not in action:
            continue
        tags = {tag for change in action["action"].values() if isinstance(change, dict) for tag in change}
        if action["dict"] != "INCAR" or tags - HARMLESS:
            return True
    return False


def _failure(electronic: bool, ionic: bool, over: bool, folder: Path) -> tuple[str, str]:
    if over and not (electronic and ionic):
        return "wall_time", f"{folder}: the wall time was over; give more and retry, it goes on from there"
    if not electronic:
        return "scf_not_converged", f"{folder}: the last electronic state is not converged"
    if not ionic:
        return "not_converged", f"{folder}: ionic steps were used up; retry, it goes on from there"
    return "", ""


def read_task(document: Mapping[str, Any], where: object) -> StepResult:
    """An atomate2 (emmet) TaskDoc as plain JSON. Raises OutputError."""
    from pymatgen.core import Structure

    try:
        calculation = document["calcs_reversed"][0]
        steps = [
            {**step, "structure": Structure.from_dict(step["structure"])}
            for step in calculation["output"]["ionic_steps"]
        ]
        frames = vasprun_frames(steps)
        outcar = calculation["output"].get("outcar") or {}
        magnetization = outcar.get("magnetization") or []
        corrections = [c for run in document.get("custodian") or [] for c in run.get("corrections") or []]
        completed = calculation["has_vasp_completed"] in (True, "success", "successful")
        parameters = {
            "hubbards": calculation["input"].get("hubbards") or {},
            "run_type": str(calculation["run_type"]),
            "titels": list(calculation["input"].get("potcar") or []),
        }
        gap = calculation["output"].get("bandgap")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise OutputError("truncated_output", f"{where}: no whole task document ({error!r}); fetch it again") from error
    return StepResult(
        frames,
        "" if completed and document.get("state") in ("successful", "success") else "not_converged",
        f"{where}: the task document says that VASP did not converge",
        np.array([site["tot"] for site in magnetization], float) if magnetization else None,
        outcar.get("total_magnetization"),
        None if gap is None else float(gap),
        tuple(_in_words(correction) for correction in corrections),
        any(_changes_settings(correction) for correction in corrections),
        parameters,
    )


@cache
def _mp2020():
    from pymatgen.analysis.compatibility import MaterialsProject2020Compatibility

    # The potentials of dft.protocol are newer files of the same symbols: symbols are checked, hashes would not match.
    return MaterialsProject2020Compatibility(check_potcar=False, strict_anions="require_bound")


def mp2020_correction(result: StepResult) -> float:
    """eV/atom that the Materials Project's 2020 scheme adds: A. Wang et al., Sci. Rep. 11, 15496 (2021).

    Raises OutputError where the scheme has no answer.
    """
    from pymatgen.core import Structure
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    from gnome_core.crystals.convert import to_structure

    structure: Structure = to_structure(result.crystal)
    hubbards = dict(result.parameters["hubbards"])
    parameters = {"hubbards": hubbards, "is_hubbard": bool(hubbards), "run_type": result.parameters["run_type"]}
    entry = ComputedStructureEntry(structure, float(result.frames[-1].energy), parameters=parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        corrected = _mp2020().process_entry(entry, clean=True)
    if corrected is None:
        raise OutputError("no_correction", f"MP2020 corrections refuse {structure.formula} ({parameters['run_type']})")
    return float(corrected.correction) / len(structure)
