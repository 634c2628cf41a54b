"""A worker process on this machine: Beam's, whose logs go to the driver alone unless all are wanted."""

from __future__ import annotations

import logging
import os
import sys

from pipelines.beam.compiled import check_programs
from pipelines.beam.environment import VERBOSE
from pipelines.logs import write_json_lines


def main() -> None:
    if VERBOSE not in os.environ:
        # Beam sends records to the driver too; without this they are also printed, from before any level is set.
        logging.getLogger().addHandler(logging.NullHandler())
    write_json_lines()
    check_programs()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
