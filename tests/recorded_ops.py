"""Which registered ops run."""

import contextlib
from unittest import mock

from fasttrack import dispatch


@contextlib.contextmanager
def recorded_ops():
    """Inside the ``with`` block, the set of the names of the ops that were dispatched so far."""
    seen = set()
    original = dispatch.choose

    def choose(name, args, backend=None):
        seen.add(name)
        return original(name, args, backend)

    with mock.patch.object(dispatch, "choose", choose):
        yield seen
