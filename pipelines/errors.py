"""The kinds of failure a command reports: a user's mistake, and a store that cannot be trusted."""

from gnome_core.errors import GnomeError


class UserError(GnomeError):
    """A mistake the user can mend. The command line prints the message as one line and exits with code 2."""


class StoreError(GnomeError):
    """Committed data that does not match its commit, or a stage whose counts do not add up."""


class JobsPending(UserError):
    """A stage needs results of jobs that are to run elsewhere; the message says where they are and how to go on."""
