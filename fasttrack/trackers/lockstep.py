"""Many videos in lock-step: one crop, feature and model call per moment serves them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fasttrack.errors import ArgumentError, FrameError
from fasttrack.trackers.base import Boxes, Frame, Result, Tracker

__all__ = ["run_lockstep"]


def run_lockstep(sequences: Sequence[tuple[Iterable[Frame], Boxes]], tracker: Tracker) -> Iterator[list[Result | None]]:
    """Follow one target in each of several videos, frame by frame together.

    The boxes are those of separate runs. A video that ends leaves; the others go on.

    Args:
        sequences: (frames, box of the target in the first one) of every video; lengths and sizes may differ.
        tracker: is started anew.

    Yields:
        For the second frame of all videos, the third, …: a result per video, None where it has ended.

    Raises:
        ArgumentError: no sequence.
        FrameError: a video without frames, or a frame that is no uint8 image.
        BoxError: a box that is none, or outside its frame.

    Examples:
        >>> from fasttrack.trackers import create_tracker
        >>> from fasttrack.video import make_clip
        >>> videos = [list(make_clip(4, seed=seed)) for seed in (0, 1)]
        >>> sequences = [((frame for frame, _ in video), video[0][1]) for video in videos]
        >>> [[result.lost for result in row if result] for row in run_lockstep(sequences, create_tracker("mosse"))]
        [[False, False], [False, False], [False, False]]
    """
    if not sequences:
        raise ArgumentError("run_lockstep", "sequences", "at least one", "none")
    rests = [iter(frames) for frames, _ in sequences]
    first: list[Frame] = []
    for k, rest in enumerate(rests):
        frame = next(rest, None)
        if frame is None:
            raise FrameError("run_lockstep", f"sequences[{k}]", "at least one frame", "none")
        first.append(frame)
    tracker.init_each(first, [box for _, box in sequences])
    alive = list(range(len(sequences)))
    while True:
        frames = [next(rests[k], None) for k in alive]
        going = [i for i, frame in enumerate(frames) if frame is not None]
        if not going:
            return
        if len(going) < len(alive):
            tracker.keep(going)
            alive = [alive[i] for i in going]
        results = tracker.update_each([frame for frame in frames if frame is not None])
        row: list[Result | None] = [None] * len(sequences)
        for k, result in zip(alive, results, strict=True):
            row[k] = result
        yield row
