"""Beam options of our own: which machines the steps that run networks ask for."""

from __future__ import annotations

from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions


class AcceleratorOptions(PipelineOptions):
    """What steps that run networks ask for. Runners without such machines to give (all but Dataflow) ignore it."""

    @classmethod
    def _add_argparse_args(cls, parser) -> None:
        parser.add_argument(
            "--accelerator",
            help="of workers that run networks, as type:nvidia-l4;count:1;install-nvidia-driver; all other steps stay "
            "on machines without",
        )
        parser.add_argument("--accelerator_min_ram", default="24GB", help="memory of those workers")


def network_hints(flags: Sequence[str], exclusive: bool = False) -> dict[str, str]:
    """Resource hints of a step that runs networks; none unless --accelerator is given.

    exclusive: whether one element is to have the worker for itself. Values are strings, as Beam wants them.
    """
    options = PipelineOptions(list(flags)).view_as(AcceleratorOptions)
    if not options.accelerator:
        return {}
    hints = {"accelerator": options.accelerator, "min_ram": options.accelerator_min_ram}
    return {**hints, "max_active_bundles_per_worker": "1"} if exclusive else hints
