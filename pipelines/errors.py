"""The kinds of failure a command reports: a user's mistake, and a store that cannot be trusted."""

from __future__ import annotations

import errno
import os
import re
import sys

from gnome_core.errors import GnomeError

# What a machine refuses, whoever asked: files are named in the text of what a pipeline's step raised.
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)
_REFUSED = re.compile(r"\[Errno (\d+)\] ([^:'\[\n]+)(?:: '([^'\n]+)')?")


class UserError(GnomeError):
    """A mistake the user can mend. The command line prints the message as one line and exits with code 2."""


class StoreError(GnomeError):
    """Committed data that does not match its commit, or a stage whose counts do not add up."""


class JobsPending(UserError):
    """A stage needs results of jobs that are to run elsewhere; the message says where they are and how to go on."""


def fault_of(error: Exception) -> str | None:
    """What to tell the user in one line, if the error is a fault of a user, a file or the machine; None for ours."""
    if isinstance(error, GnomeError):
        return str(error)
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        # Python holds what is not UTF-8 in an argument or a file's name as surrogates, which nothing else contains.
        return f"{error.object}: this name is not UTF-8; choose another"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror or error}"
    if isinstance(error, OSError | RuntimeError):
        for number, what, path in _REFUSED.findall(str(error)):
            if int(number) in REFUSED:
                return f"{path}: {what.strip()}" if path else what.strip()
    return _missing_device()


def _missing_device() -> str | None:
    """Whether the environment asks for a device that is not there: jax says so in many ways, by an assertion too."""
    asked = os.environ.get("JAX_PLATFORMS")
    if not asked or "jax" not in sys.modules:
        return None
    try:
        sys.modules["jax"].devices()
    except Exception:
        return f"JAX_PLATFORMS = {asked!r}: jax finds no such device here; unset it, or install jax for that device"
    return None
