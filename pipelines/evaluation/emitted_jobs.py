"""Folders of jobs that belong to no round: chosen crystals, and a protocol of their own.

FOLDER/emitted.json                  what is computed there; written first
FOLDER/ab/ab12.../                   a job, as `dft.jobs.folders` has them
FOLDER/ab/ab12.../material.json      which crystal it is of
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dft.config import DftConfig
from dft.jobs.folders import JobFolders, create_json
from pipelines.errors import UserError

FILE = "emitted.json"


@dataclass(frozen=True)
class EmittedFolder:
    """A folder of jobs of one engine. dft: the settings that they were made with."""

    folders: JobFolders
    engine: str
    dft: DftConfig

    @classmethod
    def open(cls, folder: Path) -> EmittedFolder | None:
        """None for another folder. Raises UserError where its settings cannot be read."""
        try:
            found = json.loads((folder / FILE).read_bytes())
            return cls(JobFolders(folder.absolute()), found["engine"], DftConfig.model_validate(found["dft"]))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder / FILE} is damaged ({type(error).__name__}: {' '.join(str(error).split())}); restore it, or "
                "emit the jobs into another folder: those that ended can be copied there"
            ) from error

    @classmethod
    def make(cls, folder: Path, engine: str, dft: DftConfig) -> EmittedFolder:
        """The folder, made unless it is there. Raises UserError where jobs with other settings are in it."""
        create_json(folder / FILE, {"engine": engine, "dft": dft.model_dump(mode="json")})
        made = cls.open(folder)
        assert made is not None
        if made.engine != engine or made.at_site(dft) != dft:
            raise UserError(
                f"{folder} has jobs with other settings of what is computed; emit these into another folder"
            )
        return made

    def at_site(self, dft: DftConfig) -> DftConfig:
        """What these jobs compute, with the commands and limits of other settings."""
        own = {"protocol": self.dft.vasp.protocol, "aimd": self.dft.vasp.aimd}
        return dft.model_copy(update={"vasp": dft.vasp.model_copy(update=own)})
