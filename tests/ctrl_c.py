"""Ctrl-C in processes that tests start."""

import signal


def heeded():
    """For ``preexec_fn``: where the tests run in the background Ctrl-C is ignored, which a child would inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
