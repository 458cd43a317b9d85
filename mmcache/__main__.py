"""What ``mmcache`` and ``python -m mmcache`` start."""

import logging
import signal
import warnings

__all__ = ["run"]


def run() -> int:
    """Run the command line and return its exit status."""
    # While modules are imported nothing is under way, and Ctrl-C may end it as any other program:
    # raised inside of an import it becomes an ImportError of whatever was being imported.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mmcache.cli import main  # noqa: PLC0415

    status = main()
    if status > 128:  # noqa: PLR2004  # by a signal
        # What libraries say of what they had under way is no news.
        logging.disable()
        warnings.simplefilter("ignore")
    return status


if __name__ == "__main__":
    raise SystemExit(run())
