"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fasttrack.errors import FasttrackError, OutputError

__all__ = ["replacing", "write_whole"]


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write beside its place; it takes the place at the end of the block.

    A stop at any moment leaves the old file, or none, or the new one. An error in the block leaves nothing behind.

    Raises:
        OutputError: naming the file and why (no space, no permission).
    """
    # Not mkstemp, whose files only their owner may read.
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except FasttrackError:
        raise  # of what the block read to write it
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # it has its name now, or never came to be
            part.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text; see ``replacing``. Raises OutputError."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))
