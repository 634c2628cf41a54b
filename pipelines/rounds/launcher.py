"""What a Flex Template runs to make a job of one stage: `--store=gs://... --stage=score` and Beam's own options.

Builds the stage's graph, which Dataflow then runs without this process. The launch of a later stage, or `gnome round
resume`, commits what the job has written.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from pipelines.beam.environment import set_up
from pipelines.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Launch a stage of the store's open round; stage generate starts the next round if none is open."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="gs://BUCKET/PATH of a store that `gnome init` made")
    parser.add_argument(
        "--stage", required=True, help="generate | score | select | emit | evaluate | ingest | hull | train"
    )
    own, flags = parser.parse_known_args(arguments)
    set_up(verbose=True)

    from pipelines.rounds import driver
    from pipelines.rounds.plan import PROPOSE
    from pipelines.store.store import Store

    store = Store.open(own.store)
    round_ = driver.open_round(store)
    if round_ is None:
        if own.stage != PROPOSE[0]:
            raise UserError(f"no round of {store.root} is open; {PROPOSE[0]} begins one")
        round_ = driver.start_round(store, None)
    attempt = driver.launch_stage(store, round_, own.stage, flags)
    logging.info("launched %s of round %d as attempt %s", own.stage, round_, attempt.id)


if __name__ == "__main__":
    main()
