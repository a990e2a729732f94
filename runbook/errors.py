"""What the runbook's commands end with when they cannot go on; the exit code is part of the command line's contract."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

NOT_WELL: Final = 3
"""The exit code of a command that has done what it should, and found something that is not as it should be."""


class RunbookError(Exception):
    """A failure, told on one line: what was being done, to what, what is wrong, how to mend it.

    Never with a secret value in it: whatever it says is printed.
    """

    exit_code = 1


class BadInputError(RunbookError):
    """The user's input is wrong; nothing has been touched."""

    exit_code = 2


class StoppedError(RunbookError):
    """The user has interrupted a command in the middle of something."""

    exit_code = 130


@contextmanager
def leaving(how_things_are: str) -> Generator[None]:
    """Where something fails in here, or is interrupted, also say how it leaves things."""
    try:
        yield
    except RunbookError as error:
        raise type(error)(f"{error}; {how_things_are}") from None
    except KeyboardInterrupt:
        raise StoppedError(f"interrupted; {how_things_are}") from None
