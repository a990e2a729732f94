"""What the sandbox's commands end with when they cannot go on; the exit code is part of the command line's contract."""


class SandboxError(Exception):
    """A failure, told on one line: what was being done, to what, what is wrong, how to mend it."""

    exit_code = 1


class BadInputError(SandboxError):
    """The user's input is wrong; nothing has been touched."""

    exit_code = 2
