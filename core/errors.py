"""Exceptions for faults that a user can cause, and for a lost process of a distributed run.

The command line prints a :class:`UserError` as one line and exits with status 1; pages show it in an error box; other
code lets it pass. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """Input that cannot be used. The message names what was expected, what was found and what to do."""


class ConfigError(UserError):
    """A configuration field has an invalid value."""


class VolumeError(UserError):
    """An image file is missing, unreadable or has invalid content."""


class DatasetError(UserError):
    """A folder is not a usable data set."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or does not fit its use."""


class RunError(UserError):
    """A run is missing or its state does not allow the operation."""


class DeviceError(UserError):
    """A device is missing or has too little memory for the work."""


class LostProcessError(Exception):
    """Another process of a distributed run has ended. Not the user's fault: the launcher restarts the run."""


def check_version(found: int, newest: int, error: type[UserError], where: str = "", what: str = "version") -> None:
    """Refuse the content of a file that a newer version of this program wrote.

    Parameters
    ----------
    found, newest : int. Version of the content; the newest one that this program reads.
    error : type. Class of the error.
    where : str. Beginning of the message: the file, with a colon.
    what : str. What the number is called.
    """
    if found > newest:
        raise error(
            f"{f'{where} ' if where else ''}expected {what} {newest} or older, got {found}; update Segmentarium"
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters; the type's name if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
