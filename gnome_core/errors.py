"""The root of the project's errors."""


class GnomeError(Exception):
    """A fault of a user's input, of a file or of the set-up: the message names what is wrong, where, and the remedy.

    The command line prints it as one line. Everything else that is raised is a defect of ours.
    """
