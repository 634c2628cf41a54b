"""How members are optimised: the [training] table of round.toml. Loads no jax, so that settings are read at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gnome_core.settings import Section


class TrainingConfig(Section):
    """Optimisation of members. The defaults suit some 2,000 crystals on a CPU; `PAPER_TRAINING` is the paper's."""

    epochs: int = Field(60, ge=1, le=100_000, description="passes over the training set")
    learning_rate: float = Field(3e-3, gt=0, le=1e6, description="at the start; falls linearly to zero")
    batch_size: int = Field(
        32, ge=1, le=1_000_000, description="graphs a step, on average: batches are filled by edges"
    )
    loss: Literal["mae", "huber"] = Field("mae", description="mae | huber")
    weight_decay: float = Field(0.1, ge=0, le=100, description="decoupled (AdamW)")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="average of the parameters that is exported; 0 = none")
    volume_jitter: float = Field(
        0.1,
        ge=0,
        le=0.2,
        description="cells are scaled to 1 ± this of their volume under the same label, so that the model learns the "
        "relaxed energy from an unrelaxed cell; the paper has none",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of matrix products in training; bfloat16 is for accelerators, parameters stay float32"
    )
    together: bool = Field(
        False,
        description="members train side by side in one program (accelerators) instead of each as a task of its own",
    )
    devices: int = Field(
        1, ge=1, le=10_000, description="local devices that share every step; batch_size is divided among them"
    )
    patience: int | None = Field(
        None, ge=1, le=100_000, description="epochs without a better validation MAE before stopping"
    )
    validate_every: int = Field(10, ge=1, le=100_000, description="epochs")
    checkpoint_every: int = Field(
        500, ge=1, le=10_000_000, description="steps; an interrupted training repeats fewer than these"
    )


# Adam from 5.55e-4 linearly to zero in 1,000 epochs (Nature 624, 80, Methods).
PAPER_TRAINING = TrainingConfig(
    epochs=1000, learning_rate=5.55e-4, batch_size=256, weight_decay=0.0, ema_decay=0.0, volume_jitter=0.0
)
