"""The one family of exceptions that a user can cause.

The command line prints the message as one line and exits with status 1; pages show it in an error box. Nobody else
catches it. Anything that is not a :class:`UserError` is a bug of ours and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave cannot be used; the message says what was expected, what was found and what to do."""


class ConfigError(UserError):
    """A configuration field has a value that it cannot have."""


class VolumeError(UserError):
    """An image file cannot be read or does not hold what it should."""


class DatasetError(UserError):
    """A folder is not a usable data set."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or does not fit what it is used for."""


class RunError(UserError):
    """A run cannot be found or is not in a state that allows what was asked."""


class DeviceError(UserError):
    """The device that was asked for is missing or too small for the work."""


class LostProcessError(Exception):
    """Another process of a team that trains together is gone. No fault of the user's: whoever started the team starts
    it anew."""


def first_line(error: BaseException) -> str:
    """What an error says, short enough for a sentence or a row of a table."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
