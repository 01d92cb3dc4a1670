"""The exception and the warning that a user of PursuHint is meant to see."""

from __future__ import annotations

__all__ = ["PursuhintError", "PursuhintWarning"]


class PursuhintError(Exception):
    """Something the caller can put right: a wrong name, file, shape or value.

    The message is one line that says which thing, what was expected, what was found and what to do. The
    command line prints it and exits with status 1; everything else that is raised is a bug and keeps its
    traceback.
    """


class PursuhintWarning(UserWarning):
    """A choice made for the caller that may not be the intended one, such as files that were left out.

    The message is one line. The command line prints it on stderr as a note.
    """
