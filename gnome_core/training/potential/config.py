"""How a potential is optimised: the [training] table of potential.toml. Loads no jax."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gnome_core.settings import Section

Factor = Annotated[float, Field(gt=0, lt=1)]


class PotentialTrainingConfig(Section):
    """Optimisation of one potential. The defaults suit some thousand frames on a CPU; `PAPER_POTENTIAL` and
    `PAPER_ROBUSTNESS` are the paper's."""

    epochs: int = Field(40, ge=1, le=100_000, description="passes over the training frames")
    batch_size: int = Field(
        8, ge=1, le=1_000_000, description="frames a batch, on average: batches are filled by edges"
    )
    learning_rate: float = Field(1e-2, gt=0, le=1e6, description="of Adam, at the start")
    schedule: Literal["linear", "steps", "plateau"] = Field(
        "linear",
        description="linear: falls to zero; steps: multiplied by `factor` after each of `drops`; plateau: multiplied "
        "by `factor` at a validation that is `plateau_epochs` after the best",
    )
    drops: tuple[Factor, ...] = Field((0.63, 0.93), description="shares of the training after which steps fall")
    factor: Factor | tuple[Factor, ...] = Field(
        0.1, description="of steps and plateau; steps may have one for each of `drops`, such as [0.1, 0.25]"
    )
    plateau_epochs: int = Field(10, ge=1, le=100_000, description="epochs of patience of the plateau schedule")
    loss: Literal["huber", "l2"] = Field("huber", description="huber: see `huber_delta`; l2: half the squared error")
    energy_weight: float = Field(1.0, ge=0, le=1e6, description="of the loss on eV/atom")
    force_weight: float = Field(1.0, ge=0, le=1e6, description="of the loss on eV/Å; see `force_loss`")
    force_loss: Literal["mean", "sum"] = Field(
        "mean",
        description="mean: over all force components of a batch; sum: over those of a frame, then the mean over frames "
        "(the paper's; of n atoms it weighs 3n times as much)",
    )
    stress_weight: float = Field(
        0.0, ge=0, le=1e6, description="of the loss on the virial, eV/atom, mean over components"
    )
    hessian_weight: float = Field(
        0.0, ge=0, le=1e6, description="of the loss on Hessian rows, eV/Å^2, of frames that have them (distillation)"
    )
    huber_delta: float = Field(
        0.1, gt=0, le=1e6, description="errors below it count by their square, in each loss's unit"
    )
    weight_decay: float = Field(0.0, ge=0, le=100, description="decoupled (AdamW)")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="average of the parameters that is exported; 0 = none")
    first_frames: float = Field(
        0.0, ge=0, le=1, description="share of each batch drawn from first frames of relaxations, the rest from all"
    )
    shifts: Literal["fit", "references"] = Field(
        "fit",
        description="energy of an element that is added to the network's. fit: least squares over the training "
        "frames, then trained with the network; references: its reference phase and one constant for all atoms, both "
        "fixed, so that the network learns formation energies",
    )
    scale: Literal["forces", "energies"] = Field(
        "forces",
        description="what the network's energies of atoms are multiplied by. forces: the root mean square of the force "
        "components; energies: the standard deviation of the energies per atom above the shifts (the paper's)",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of the products of features with weights, in training; bfloat16 is for accelerators, parameters "
        "stay float32",
    )
    devices: int = Field(
        1, ge=1, le=10_000, description="local devices that share every step; batch_size is divided among them"
    )
    val_fraction: float = Field(0.1, ge=0, lt=1, description="share of the frames that validates, whole relaxations")
    validate_every: int = Field(5, ge=1, le=100_000, description="epochs")
    checkpoint_every: int = Field(
        500, ge=1, le=10_000_000, description="steps; an interrupted training repeats fewer than these"
    )

    @model_validator(mode="after")
    def _factors_fit_the_schedule(self) -> PotentialTrainingConfig:
        if isinstance(self.factor, tuple) and (self.schedule != "steps" or len(self.factor) != len(self.drops)):
            raise ValueError(f'factor: one number or, with schedule = "steps", one for each of {len(self.drops)} drops')
        return self


# Nature 624, 80 (2023), Methods: Huber losses with delta 0.01, Adam at 2e-3, after 23 million steps 2e-4, after 11
# million more 5e-5, for 2.43 million more; batches of 16 first frames and 16 of all, formation energies; force losses
# summed over atoms (its Eq. 1), outputs scaled and shifted by deviation and mean of the energies per atom. Steps fall
# at these shares of whatever number of epochs.
PAPER_POTENTIAL = PotentialTrainingConfig(
    batch_size=32,
    learning_rate=2e-3,
    schedule="steps",
    drops=(23 / 36.43, 34 / 36.43),
    factor=(0.1, 0.25),
    force_weight=0.05,
    force_loss="sum",
    scale="energies",
    huber_delta=0.01,
    ema_decay=0.0,
    first_frames=0.5,
    shifts="references",
)

# The same, robustness to temperature: an L2 loss, the rate times 0.8 after 50 epochs without progress. Rates of 1e-2
# and 2e-3 and batches of 1 and 16 were scanned.
PAPER_ROBUSTNESS = PotentialTrainingConfig(
    batch_size=16, learning_rate=2e-3, schedule="plateau", factor=0.8, plateau_epochs=50, loss="l2", ema_decay=0.0
)
