"""Folders of result files and small datasets, for the tests of formats."""

from functools import partial

import numpy as np

from fasttrack.evaluation.sequence import Annotations, Dataset, Sequence


def files_under(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def put(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def annotations(boxes):
    return Annotations(np.array(boxes, float))


def frames(count):
    return range(count)


def dataset(**boxes):
    return Dataset("made", [Sequence(n, partial(frames, len(b)), partial(annotations, b)) for n, b in boxes.items()])
