"""The [dft] tables of round.toml: how first-principles jobs are set up and run. Loads nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gnome_core.settings import Section


class EspressoConfig(Section):
    """Quantum ESPRESSO with PseudoDojo 0.4 PBE pseudopotentials. `settings` decide a result, the others do not."""

    command: str = Field("pw.x", description="how pw.x is started, as in a shell: mpirun -n 4 pw.x")
    pseudopotentials: str | None = Field(
        None, description="folder of UPF files; empty = where `gnome dft setup-espresso` puts them"
    )
    ecutwfc: float = Field(90.0, gt=0, le=1000, description="Ry, plane waves; these potentials need 90 for stresses")
    reciprocal_density: float = Field(
        64.0, gt=0, le=1e6, description="k-points per 1/Å^3, relaxations; GNoME's for VASP"
    )
    static_reciprocal_density: float = Field(
        100.0, gt=0, le=1e6, description="k-points per 1/Å^3, final energy; GNoME's"
    )
    degauss: float = Field(0.004, gt=0, le=1, description="Ry, Gaussian smearing")
    conv_thr: float = Field(1e-7, gt=0, le=1, description="Ry per cell, self-consistency")
    forc_conv_thr: float = Field(
        2e-3, gt=0, le=1, description="Ry/bohr, largest force component at the end (0.05 eV/Å)"
    )
    press_conv_thr: float = Field(2.0, gt=0, le=1000, description="kbar, pressure at the end")
    symprec: float = Field(
        0.01, gt=0, le=1, description="Å; symmetry that holds to this is made exact, which saves k-points"
    )
    max_ionic_steps: int = Field(50, ge=1, le=100_000, description="steps of one relaxation; more is not_converged")

    def settings(self) -> dict[str, object]:
        """What decides a result, which job digests depend on."""
        return self.model_dump(exclude={"command", "pseudopotentials"})


class AimdConfig(Section):
    """Molecular dynamics (`gnome dft aimd`): NVT at the gamma point, without spin. Times, temperatures: the paper's."""

    temperature: float = Field(1000.0, gt=0, le=100_000, description="K")
    start_temperature: float = Field(300.0, gt=0, le=100_000, description="K, of the first velocities")
    timestep: float = Field(2.0, gt=0, le=100, description="fs")
    ramp: float = Field(5.0, ge=0, le=1e6, description="ps from start_temperature to temperature, velocities rescaled")
    duration: float = Field(45.0, gt=0, le=1e6, description="ps at temperature, by a Nosé thermostat")
    min_length: float = Field(8.0, ge=0, le=200, description="Å; the cell is repeated until its heights reach it")
    label_every: int = Field(
        50, ge=1, le=1_000_000, description="steps between frames that potentials learn from; decides no result"
    )


class VaspConfig(Section):
    """VASP with GNoME's settings (`gnome dft protocol`); POTCARs come from pymatgen's PMG_VASP_PSP_DIR."""

    command: str = Field("vasp_std", description="how VASP is started, as in a shell: srun vasp_std")
    gamma_command: str = Field("vasp_gam", description="the same for runs at the gamma point alone")
    protocol: Literal["pbe", "bands", "r2scan", "aimd"] = Field(
        "pbe", description="pbe | bands (pbe and a gap) | r2scan; aimd is that of `gnome dft aimd`, not of rounds"
    )
    polling: float = Field(10.0, gt=0, le=86_400, description="seconds between custodian's looks at a running VASP")
    aimd: AimdConfig = Field(AimdConfig(), description="molecular dynamics")


class DftConfig(Section):
    """First-principles jobs, whichever engine runs them."""

    workers: int = Field(1, ge=1, le=10_000, description="jobs at a time on this machine")
    wall_time: int | None = Field(
        None, ge=1, le=31_536_000, description="seconds that one calculation of a job may take"
    )
    max_errors: int = Field(
        5, ge=1, le=1000, description="corrections of one calculation before a job counts as failed"
    )
    emit: Literal["folders", "tar", "flows"] = Field(
        "folders",
        description="folders | tar (shards of 1,000 jobs) | flows (atomate2 flows beside the inputs; vasp); a store "
        "in a bucket always gets shards",
    )
    espresso: EspressoConfig = Field(EspressoConfig(), description="Quantum ESPRESSO")
    vasp: VaspConfig = Field(VaspConfig(), description="VASP")
