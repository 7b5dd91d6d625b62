"""What the toolkits in use make of the frames of one pass, as far as they differ.

The frames they count and what they put in the place of a measure that is not there: the first frame, frames whose
ground truth is NaN, empty or marked absent, unusable result boxes, and the number of frames to divide by.

=========== ============ ============================ ========================= =================== ================
rules       first frame  ground truth NaN             ground truth empty        marked absent       divides by
=========== ============ ============================ ========================= =================== ================
otb         ground truth no success, both errors hit  the same, also x or y ≤ 0 counts nowhere      all frames
lasot       ground truth no success, both errors hit  the same, also x or y ≤ 0 counts nowhere      all frames
pytracking  ground truth no success, both errors hit  no success, error misses, counts nowhere      see below
                                                      normalised error hits
pysot       as it is     no success, both errors hit  no success, errors hit if counts nowhere      all frames
                                                      the centre is ≤ 0
got10k      left out     left out                     no success, errors miss   left out            frames left in
trackingnet ground truth no success, both errors miss the same                  as any other        all frames
=========== ============ ============================ ========================= =================== ================

"Hits" is no misprint: those toolkits set the error of such frames to −1, and −1 ≤ k holds for every k. That is why
precision on UAV123 (NaN where the target is out of view) is higher than it should be in otb, pytracking and pysot, and
why success differs by what the frames are divided by.

Sources, as read: ``calcSeqErrRobust.m`` and ``genPerfMat.m`` of the OTB Matlab toolkit v1.1 (Wu et al. 2015);
``calc_seq_err_robust.m`` and ``eval_tracker.m`` of the LaSOT toolkit (Fan et al. 2019), which is OTB's with absent
frames; ``pytracking/analysis/extract_results.py`` (visionml/pytracking); ``toolkit/utils/statistics.py`` and
``toolkit/evaluation/ope_benchmark.py`` (STVIR/pysot); ``got10k/experiments/got10k.py`` and ``got10k/utils/metrics.py``
(got-10k/toolkit); ``metrics.py`` of SilvioGiancola/TrackingNet-devkit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fasttrack.evaluation.metrics.overlap import Floats, center_error, columns, iou, normalised_center_error

__all__ = ["RULES", "Mask", "Measured", "got10k_frames"]

Mask: TypeAlias = NDArray[np.bool_]


class Measured(NamedTuple):
    """What a rule makes of the frames; those that count nowhere have overlap −1 and errors inf, or are gone."""

    overlap: Floats
    error: Floats
    normalised: Floats
    frames: int


def _otb(boxes: Floats, truth: Floats, visible: Mask | None, _: tuple[float, float] | None) -> Measured:
    """Rules of the OTB Matlab toolkit; with ``visible`` those of the LaSOT one.

    - A result box that is NaN in all four numbers or has a side ≤ 0 is replaced by the one before it (itself perhaps
      replaced), unless the ground truth of the frame has a NaN. The first is never replaced.
    - The first box is then the ground truth.
    - The frame is valid if all four numbers of its ground truth, in the 1-based coordinates of the files, are positive:
      not only the sides but also x and y. Else overlap and both errors are −1: success never, precision always.
    - Frames marked absent are taken out before counting (LaSOT).
    - All frames, the absent ones too, are what is divided by.

    OTB itself has no normalised precision; LaSOT's is used. Its toolkit replaces a box with any NaN, not only of four.
    """
    lacking = _all(np.isnan(boxes)) | _any(boxes[:, 2:] <= 0)
    if visible is not None:
        lacking |= _any(np.isnan(boxes))
    boxes = _filled(boxes, lacking & ~_any(np.isnan(truth)))
    boxes[0] = truth[0]
    valid = _all(truth[:, :2] > -1) & _all(truth[:, 2:] > 0)
    overlap, error, normalised = _distances(boxes, truth)
    overlap[~valid] = error[~valid] = normalised[~valid] = -1
    return _without(~visible if visible is not None else None, overlap, error, normalised)


def _lasot(boxes: Floats, truth: Floats, visible: Mask | None, size: tuple[float, float] | None) -> Measured:
    """Rules of the LaSOT toolkit: those of OTB for a dataset that marks absence, also where no frame is marked."""
    return _otb(boxes, truth, np.ones(len(truth), np.bool_) if visible is None else visible, size)


def _pytracking(boxes: Floats, truth: Floats, visible: Mask | None, _: tuple[float, float] | None) -> Measured:
    """Rules of pytracking (also of STARK, OSTrack and others that took its analysis over).

    - A result box with a side of 0 is replaced by the one before it, unless the ground truth of the frame has a NaN.
      pytracking stops at negative sides and at NaN; here they are replaced too.
    - The first box is then the ground truth.
    - The frame is valid if both sides of its ground truth are positive and it is not marked absent. Else the overlap
      is −1, the error infinite and the normalised error −1: no success, no precision, but a hit for the normalised.
    - It divides by the valid frames, so that the normalised precision can come out above 1. Two datasets are apart, and
      are told here by what only they have: UAV (the only one whose ground truth may hold NaN) divides by all frames and
      has error −1 where invalid; LaSOT (marks absence) divides by all frames and has both errors infinite where absent.
    """
    unboxed = _any(np.isnan(truth))
    lacking = _any(np.isnan(boxes)) | _any(boxes[:, 2:] <= 0)
    boxes = _filled(boxes, lacking & ~unboxed)
    boxes[0] = truth[0]
    valid = _all(truth[:, 2:] > 0)
    if visible is not None:
        valid &= visible
    overlap, error, normalised = _distances(boxes, truth)
    overlap[~valid] = normalised[~valid] = -1
    error[~valid] = -1 if unboxed.any() else np.inf
    if visible is not None:
        error[~visible] = normalised[~visible] = np.inf
    everything = visible is not None or bool(unboxed.any())
    return Measured(overlap, error, normalised, len(truth) if everything else int(valid.sum()))


def _pysot(boxes: Floats, truth: Floats, visible: Mask | None, _: tuple[float, float] | None) -> Measured:
    """Rules of pysot and pysot-toolkit.

    - Result boxes are taken as they are, the first as well; NaN is no success and no hit.
    - Overlap is −1 where a side of the ground truth is not positive (or NaN).
    - Both errors are −1, a hit, where a coordinate ``x + (w − 1)/2`` of the true centre is not positive (or NaN).
      Sides of 0 with a positive centre give an ordinary error, and the normalised one is in units of 1e-16.
    - Frames marked absent (LaSOT) are taken out before counting.
    - All frames, the absent ones too, are what is divided by.
    """
    overlap, error = iou(boxes, truth), center_error(boxes, truth)
    overlap[~_all(truth[:, 2:] > 0)] = -1
    sides = truth[:, 2:] + 1e-16
    offset = (boxes[:, :2] - truth[:, :2] + (boxes[:, 2:] - truth[:, 2:]) / 2) / sides
    normalised = np.sqrt((offset * offset).sum(1))
    center = truth[:, :2] + (truth[:, 2:] - 1) / 2
    error[~_all(center > 0)] = -1
    normalised[~_all(center / sides > 0)] = -1
    return _without(~visible if visible is not None else None, overlap, error, normalised)


def _got10k(boxes: Floats, truth: Floats, visible: Mask | None, size: tuple[float, float] | None) -> Measured:
    """Rules of the GOT-10k toolkit.

    - The first frame is left out, and so are frames marked absent (``cover`` 0). It divides by the frames left in.
    - Before the overlap both boxes are clipped to the frame, in the numbers of the files, whose first pixel is 1: the
      left edge to [0, W], then the width to [0, W − left]; the same for y. So a box that begins left of the frame is
      moved in and not shortened, and a column that nothing can lie in counts on the left and one lacks on the right.
    - A result without overlap, empty or NaN is a miss. (The toolkit has no NaN: its mean would be NaN.)

    The toolkit has no NaN ground truth, no empty one and no precision for this dataset; here a frame of NaN ground
    truth is left out, an empty one is a miss, and the errors are those of the boxes before clipping.
    """
    within, target, kept = got10k_frames(boxes, truth, visible, size)
    _, error, normalised = _distances(boxes[kept], truth[kept])
    error[~_all(truth[kept, 2:] > 0)] = np.inf
    return Measured(iou(within, target), error, normalised, len(target))


def got10k_frames(
    boxes: Floats, truth: Floats, visible: Mask | None, size: tuple[float, float] | None
) -> tuple[Floats, Floats, Mask]:
    """Boxes and ground truth of the frames that ``_got10k`` counts, clipped, and which frames these are."""
    kept = ~_any(np.isnan(truth))
    kept[:1] = False
    if visible is not None:
        kept &= visible
    boxes, truth = boxes[kept], truth[kept]
    if size is not None:
        boxes, truth = _clipped(boxes, size), _clipped(truth, size)
    return boxes, truth, kept


def _clipped(boxes: Floats, size: tuple[float, float]) -> Floats:
    width, height = size
    x, y, w, h = columns(boxes)
    # The toolkit clips the numbers of the files, in which the first pixel is 1.
    x, y = np.minimum(np.maximum(x + 1, 0), width), np.minimum(np.maximum(y + 1, 0), height)
    w, h = np.minimum(np.maximum(w, 0), width - x), np.minimum(np.maximum(h, 0), height - y)
    return np.stack([x - 1, y - 1, w, h], axis=1)


def _trackingnet(boxes: Floats, truth: Floats, _: Mask | None, __: tuple[float, float] | None) -> Measured:
    """Rules of TrackingNet's evaluation server.

    - Boxes and ground truth are rounded to whole pixels, half to even. (Here of the 0-based numbers: a coordinate that
      lies on a half pixel may come out one pixel apart if the files are 1-based.)
    - The first box is then the ground truth.
    - All frames are divided by; a result of NaN is a miss.

    The ground truth is never absent in this dataset: here a frame of NaN or empty ground truth is a miss as well.
    """
    boxes, truth = np.round(boxes), np.round(truth)
    boxes[0] = truth[0]
    overlap, error, normalised = _distances(boxes, truth)
    error[~_all(truth[:, 2:] > 0)] = np.nan
    return Measured(overlap, error, normalised, len(truth))


def _any(flags: Mask) -> Mask:
    return np.asarray(flags.any(axis=1))


def _all(flags: Mask) -> Mask:
    return np.asarray(flags.all(axis=1))


def _distances(boxes: Floats, truth: Floats) -> tuple[Floats, Floats, Floats]:
    return iou(boxes, truth), center_error(boxes, truth), normalised_center_error(boxes, truth)


def _filled(boxes: Floats, lacking: Mask) -> Floats:
    """A copy in which each lacking row is the last one before it that is not; the first stays."""
    rows = np.where(lacking, 0, np.arange(len(boxes)))
    return boxes[np.maximum.accumulate(rows)]


def _without(absent: Mask | None, overlap: Floats, error: Floats, normalised: Floats) -> Measured:
    if absent is not None:
        overlap[absent], error[absent], normalised[absent] = -1, np.inf, np.inf
    return Measured(overlap, error, normalised, len(overlap))


RULES: dict[str, Callable[[Floats, Floats, Mask | None, tuple[float, float] | None], Measured]] = {
    "otb": _otb,
    "pytracking": _pytracking,
    "pysot": _pysot,
    "got10k": _got10k,
    "lasot": _lasot,
    "trackingnet": _trackingnet,
}
