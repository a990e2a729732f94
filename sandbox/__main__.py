"""The `sandbox` command, also as `python -m sandbox`: an interrupt, however early, ends it with exit code 130."""

import signal
import sys


def run() -> None:
    """Run the command line. A closed terminal and a request to end count as interrupts."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup, for one, has it ignored
            signal.signal(number, signal.default_int_handler)
    try:
        from sandbox.cli import main  # takes half a second

        main(prog_name="sandbox")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    run()
