"""``fasttrack demo``: the built-in clip, tracked and measured against its exact truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttrack.errors import FasttrackError, OutputError
from fasttrack.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fasttrack.cli.loop import Tally
    from fasttrack.video import Frame, TrackResult

__all__ = ["DemoFailed", "add_parser", "overlaps", "run"]

_WORKING_IOU = 0.4  # a tracker that works is far above, one that lost the target far below


class DemoFailed(FasttrackError):
    """The tracker lost the target of the built-in clip: the installation does not work."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="track the built-in clip and print figures",
        description="Draw the built-in clip (a balloon over a city: scale, dusk, a second balloon, a tower in front), "
        "track it, and write overlay.mp4, boxes.csv and sheet.png.",
    )
    parser.add_argument("--out", default="fasttrack-demo", metavar="DIR", help="folder (default: %(default)s)")
    parser.add_argument("--tracker", default="crt", metavar="NAME", help="which tracker (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=200, metavar="N", help="length (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another city (default: %(default)s)")
    parser.add_argument("--response", action="store_true", help="lay the response map over the pictures")
    parser.add_argument("--quiet", action="store_true", help="print the line of figures only")
    parser.set_defaults(run=run)


def overlaps(found: Sequence[Box], truth: Sequence[Box]) -> list[float]:
    """IoU of each frame but the first, whose box was given."""
    return [a.iou(b) for a, b in zip(found[1:], truth[1:], strict=True)]


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import fasttrack
    from fasttrack.cli import loop
    from fasttrack.cli.progress import Progress
    from fasttrack.video import CsvSink, OverlaySink, SheetSink, Sink, check_outputs
    from fasttrack.video.clip import CLIP_FPS
    from fasttrack.video.files import ClipSource

    source = ClipSource(args.frames, seed=args.seed)
    tracker = fasttrack.create_tracker(args.tracker)
    folder = Path(args.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made: {error.strerror or error}") from error
    paths = [folder / name for name in ("overlay.mp4", "boxes.csv", "sheet.png")]
    check_outputs(paths)
    found: list[Box] = []

    def sinks() -> Iterator[Sink]:
        yield OverlaySink(paths[0], CLIP_FPS)
        yield CsvSink(paths[1])
        yield SheetSink(paths[2], title=f"fasttrack demo  |  {args.tracker}")

    def keep(_frame: Frame, results: Sequence[TrackResult]) -> bool:
        found.append(results[0].box)
        return True

    tally = loop.Tally()
    with loop.interruptible(source) as interrupt, Progress("demo", args.quiet) as progress, loop.Outputs() as outputs:
        progress.start(args.frames)
        frames = iter(source)
        first = next(frames, None)
        if first is not None:
            paint = loop.response_painter(tracker) if args.response else None
            loop.run(first, frames, tracker, source.truth[:1], sinks(), outputs, progress, keep, tally, paint)
    if interrupt.signal is None:
        _report(overlaps(found, source.truth), tally, args, paths, tracker.weights_note)
    return interrupt.exit_code


def _report(ious: list[float], tally: Tally, args: argparse.Namespace, paths: list[Path], weights: str) -> None:
    if not ious:
        return
    mean = sum(ious) / len(ious)
    success = sum(iou > 0.5 for iou in ious) / len(ious)
    fps = "" if tally.tracker_fps is None else f" · {tally.tracker_fps:.1f} FPS"
    print(f"demo: {args.tracker} · {tally.frames} frames · mean IoU {mean:.3f} · IoU > 0.5 in {success:.1%}{fps}")
    if weights:
        print(f"  weights {weights}")
    if not args.quiet:
        for path in paths:
            print(f"  wrote {path}")
    if mean < _WORKING_IOU:
        raise DemoFailed(
            f"demo: {args.tracker} lost the target (mean IoU {mean:.3f}, a working one is over {_WORKING_IOU}); "
            "fasttrack doctor shows what runs on this machine"
        )
