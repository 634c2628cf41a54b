"""What VASP and custodian wrote, or what atomate2 stored of it, as a StepResult; the corrections of its energy."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dft.jobs.engine import Correction, OutputError, StepResult
from dft.jobs.outputs import find, read_text
from gnome_core.compositions.formulas import reduced_formula
from gnome_core.crystals.convert import from_structure
from gnome_core.potentials.relax import Frame
from gnome_core.stability.corrections import mp2020_corrections
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_KBAR

FORCE_OF_REST = 0.01  # eV/Å, of a relaxation that ended with its first step by its energy
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
    failure, message = failure_of(run.converged_electronic, _reached(run, folder), over, folder)
    return StepResult(
        vasprun_frames(run.ionic_steps, run.vasp_version, str(folder)),
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


def _reached(run: Any, folder: Path) -> bool:
    """Whether VASP ended by itself what it was asked for.

    pymatgen takes a relaxation for converged that a STOPCAR ended before its last permitted step; the OUTCAR alone says
    whether the accuracy was reached, and whether a hard stop left electrons on their way.
    """
    relaxes = _relaxes(run.parameters)
    path = folder / "OUTCAR"
    if not relaxes and not path.is_file() and not path.with_name("OUTCAR.gz").is_file():
        return True
    said = read_text(find(folder, "OUTCAR"))
    return "hard stop encountered" not in said and (not relaxes or "reached required accuracy" in said)


def _relaxes(parameters: Mapping[str, Any]) -> bool:
    """Whether VASP moves atoms until they rest: IBRION 1, 2 or 3, whose default is 0 where NSW asks for steps."""
    return int(parameters.get("NSW") or 0) > 0 and int(parameters.get("IBRION", 0)) in (1, 2, 3)


def vasprun_frames(steps: Sequence[Mapping[str, Any]], version: str, where: str) -> list[Frame]:
    """Every ionic step with energy (sigma -> 0), forces and stress. VASP's stress has the opposite sign, in kbar.

    version, where: VASP's, and what the OutputError names for energies that this version does not give.
    """
    return [
        Frame(
            number,
            from_structure(step["structure"]),
            energy_to_zero_smearing(step, version, where),
            np.array(step["forces"], np.float64),
            -np.array(step["stress"], np.float64) / EV_PER_CUBIC_ANGSTROM_IN_KBAR,
        )
        for number, step in enumerate(steps)
        if step.get("forces") is not None and step.get("stress") is not None
    ]


def energy_to_zero_smearing(step: Mapping[str, Any], version: str, where: str) -> float:
    """The energy of an ionic step extrapolated to sigma -> 0, eV per cell.

    VASP 5 writes 0, or another of its energies, into the step's own e_0_energy. Free energies are right in every
    version, and so are all energies of electronic steps, which lack the dispersion of the ionic step's: the difference
    of the last electronic step, added to the free energy of the ionic one, is the answer of all versions. From VASP 6
    on a step without electronic ones has it in e_0_energy. Raises OutputError where neither is there.
    """
    electronic = step.get("electronic_steps") or []
    if electronic:
        free, zero, last = step.get("e_fr_energy"), electronic[-1].get("e_0_energy"), electronic[-1].get("e_fr_energy")
        if free is not None and zero is not None and last is not None and np.isfinite([free, zero, last]).all():
            return float(free) + float(zero) - float(last)
    own, major = step.get("e_0_energy"), version.partition(".")[0]
    if not electronic and own is not None and np.isfinite(own) and major.isdigit() and int(major) >= 6:
        return float(own)
    raise OutputError(
        "unknown_energy",
        f"{where}: an ionic step of VASP {version or '(version unknown)'} lacks the energies of its electronic steps, "
        "which alone give its energy at sigma -> 0; run it again",
    )


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
    over = _is_over(corrections)
    fixes = tuple(_in_words(correction) for correction in corrections)
    return fixes, any(_changes_settings(correction) for correction in corrections), over


def _is_over(corrections: Sequence[Mapping[str, Any]]) -> bool:
    return any("Walltime reached" in map(str, correction["errors"]) for correction in corrections)


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


def failure_of(electronic: bool, ionic: bool, over: bool, folder: object) -> tuple[str, str]:
    """(reason, message) of a calculation; empty for one that came to its end. over: whether the wall time was."""
    if over and not (electronic and ionic):
        return "wall_time", f"{folder}: the wall time was over; give more and retry, it goes on from there"
    if not electronic:
        return "scf_not_converged", f"{folder}: the last electronic state is not converged"
    if not ionic:
        return (
            "not_converged",
            f"{folder}: ionic steps were used up or the run was stopped; retry, it goes on from there",
        )
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
        frames = vasprun_frames(steps, str(calculation.get("vasp_version") or ""), str(where))
        outcar = calculation["output"].get("outcar") or {}
        magnetization = outcar.get("magnetization") or []
        corrections = [c for run in document.get("custodian") or [] for c in run.get("corrections") or []]
        completed = calculation["has_vasp_completed"] in (True, "success", "successful")
        settings = {**(calculation["input"].get("incar") or {}), **(calculation["input"].get("parameters") or {})}
        over = _is_over(corrections)
        # A document of a relaxation that a STOPCAR ended says "success"; its OUTCAR is not at hand.
        ediffg = float(settings.get("EDIFFG", 10 * float(settings.get("EDIFF", 1e-4))))  # VASP's own default
        reached = not _relaxes(settings) or (not over and _may_rest(frames, ediffg))
        parameters = {
            "hubbards": calculation["input"].get("hubbards") or {},
            "run_type": str(calculation["run_type"]),
            "titels": list(calculation["input"].get("potcar") or []),
        }
        gap = calculation["output"].get("bandgap")
        failure, message = failure_of(
            True, reached and completed and document.get("state") in ("successful", "success"), over, where
        )
        return StepResult(
            frames,
            failure,
            message,
            np.array([site["tot"] for site in magnetization], float) if magnetization else None,
            outcar.get("total_magnetization"),
            None if gap is None else float(gap),
            tuple(_in_words(correction) for correction in corrections),
            any(_changes_settings(correction) for correction in corrections),
            parameters,
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError("truncated_output", f"{where}: no whole task document ({error!r}); fetch it again") from error


def _may_rest(frames: Sequence[Frame], ediffg: float) -> bool:
    """Whether the last frames meet VASP's EDIFFG as far as frames can tell.

    ediffg: eV/Å of the largest force if negative, else eV between two steps; 0 rests never. A line minimisation
    compares the energy with that of one step or two steps before.
    """
    if not frames:
        return True
    largest = float(np.linalg.norm(frames[-1].forces, axis=1).max(initial=0.0))
    if ediffg < 0:
        return largest <= 1.01 * abs(ediffg)
    if len(frames) == 1:
        return largest < FORCE_OF_REST
    changes = [abs(frames[-1].energy - frame.energy) for frame in frames[-3:-1]]
    return min(changes) <= max(ediffg, 1e-6)


def mp2020_correction(result: StepResult) -> Correction:
    """The Materials Project's 2020 scheme; see `gnome_core.stability.corrections`.

    Raises OutputError where the scheme has no answer.
    """
    kind = result.parameters["run_type"].rpartition(".")[2].upper().replace("_U", "+U")
    found = mp2020_corrections([result.crystal], [result.parameters["hubbards"]], [kind])
    if found.problems[0] is not None:
        formula = reduced_formula(result.crystal.numbers)
        raise OutputError("no_correction", f"MP2020 corrections refuse {formula} ({kind}): {found.problems[0]}")
    return Correction(float(found.per_atom[0]), found.version)
