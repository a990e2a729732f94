"""The `runbook` command, also as `python -m runbook`: an interrupt, however early, ends it with exit code 130."""

import gc
import signal
import sys

OBJECTS_BETWEEN_COLLECTIONS = 200_000
"""Modules make many objects that stay: to look for garbage among them takes a third of a command's time to start."""


def run() -> None:
    """Run the command line. A closed terminal and a request to end count as interrupts."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup, for one, has it ignored
            signal.signal(number, signal.default_int_handler)
    try:
        from runbook.cli import main  # takes a tenth of a second

        main(prog_name="runbook")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    run()
