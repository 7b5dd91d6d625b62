"""``fasttrack track``: follow one or several targets through a video."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttrack.errors import ArgumentError, BoxError, SourceError
from fasttrack.geometry import Box

if TYPE_CHECKING:
    from fasttrack.cli.loop import Interrupt, Tally
    from fasttrack.cli.progress import Progress
    from fasttrack.trackers.base import Tracker
    from fasttrack.video import Frame, Sink, Source

__all__ = ["add_parser", "run", "summary"]

_EPILOG = """\
sources:
  clip.mp4               a video file
  frames/  'img/*.png'   images, in natural order (img2 before img10); quote the glob
  0                      webcam 0 (write ./0 for a file of that name)
  rtsp://…  http://…     a stream: the latest frame is tracked, frames that come meanwhile are
                         dropped and counted; a broken stream is connected again up to 5 times

Results are written as they come; Ctrl-C (or q in the window) keeps what is done. Existing output
files are replaced. A broken frame is skipped with a warning, and its number left out of the results;
with --strict it ends the run. Frame numbers count from 0 (in --mot from 1).

examples:
  fasttrack track clip.mp4 --box 120,80,64,48 --out tracked.mp4 --csv boxes.csv
  fasttrack track 0 --select --show
  fasttrack track frames/ --init-from groundtruth_rect.txt --one-based --sheet sheet.png
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "track",
        help="follow one or several targets through a video",
        description="Follow one or several targets through a video, images, a webcam or a stream.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="video, folder, glob, image, webcam number or address")
    where = parser.add_argument_group("target (one of these)")
    where.add_argument("--box", action="append", metavar="X,Y,W,H", help="box in the first frame, px; repeat for more")
    where.add_argument("--select", action="store_true", help="draw the boxes with the mouse")
    where.add_argument("--init-from", metavar="FILE", help="take the box from the row of FILE for the first frame")
    where.add_argument("--one-based", action="store_true", help="the corner in --init-from counts px from 1 (OTB)")
    how = parser.add_argument_group("tracker")
    how.add_argument("--tracker", default="crt", metavar="NAME", help="which tracker (default: %(default)s)")
    how.add_argument("--features", metavar="NAME", help="short for --set features=NAME")
    how.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="field of the tracker's Config"
    )
    out = parser.add_argument_group("results (existing files are replaced)")
    out.add_argument("--out", metavar="VIDEO", help="video with the boxes drawn in (.mp4 .m4v .mov .mkv .avi)")
    out.add_argument("--fps", type=float, metavar="F", help="rate of that video (default: the source's, else 25)")
    out.add_argument("--csv", metavar="FILE", help="table, one row per frame and target")
    out.add_argument("--json", metavar="FILE", help="JSON array, valid at any time; one object a line with .jsonl")
    out.add_argument("--mot", metavar="FILE", help="MOTChallenge text (frame, id and corner 1-based)")
    out.add_argument("--rerun", metavar="FILE", help="recording for the Rerun viewer (.rrd); needs fasttrack[rerun]")
    out.add_argument("--fiftyone", metavar="FOLDER", help="dataset for FiftyOne (FiftyOneVideoLabelsDataset), added to")
    out.add_argument("--sheet", metavar="FILE", help="contact sheet (.png .jpg)")
    out.add_argument("--sheet-frames", type=int, default=12, metavar="N", help="frames on it (default: %(default)s)")
    out.add_argument("--response", action="store_true", help="lay the response map over the pictures of all of these")
    out.add_argument("--show", action="store_true", help="live window (space: pause, q: quit)")
    flow = parser.add_argument_group("run")
    flow.add_argument("--start", type=int, default=0, metavar="N", help="skip the first N frames")
    flow.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames")
    flow.add_argument("--strict", action="store_true", help="end with an error at a broken frame")
    flow.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; everything that can be checked is checked before a file is touched."""
    import fasttrack
    from fasttrack.cli.progress import Progress
    from fasttrack.video import check_outputs, open_source

    given = _boxes_given(args)
    outputs = _check_options(args)
    tracker = fasttrack.create_tracker(args.tracker, **_settings(args))
    check_outputs(outputs)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(_label(args.source), args.quiet))
        source = open_source(args.source, strict=args.strict, start=args.start, warn=progress.warn)
        stack.callback(source.close)
        check_outputs(outputs, [*source.inputs, *([args.init_from] if args.init_from else [])])
        return _track(args, source, tracker, given, progress)


def _track(
    args: argparse.Namespace, source: Source, tracker: Any, given: Sequence[Box] | None, progress: Progress
) -> int:
    from fasttrack.cli import loop

    tally, outputs = loop.Tally(), loop.Outputs()
    with loop.interruptible(source) as interrupt:
        frames = iter(source)
        first = next(frames, None)
        if first is None:
            return interrupt.exit_code
        boxes = _boxes(args, given, first)
        known = [n for n in (source.count, args.max_frames) if n is not None]
        rest = frames if args.max_frames is None else itertools.islice(frames, args.max_frames - 1)
        progress.start(min(known, default=None))
        try:
            with outputs, ExitStack() as stack:
                view = None
                if args.show:
                    from fasttrack.cli.window import Window

                    window = Window()
                    stack.callback(window.close)
                    view = window.show

                paint = loop.response_painter(tracker) if args.response else None
                loop.run(first, rest, tracker, boxes, _sinks(args, source), outputs, progress, view, tally, paint)
        finally:
            progress.close()
            if tally.frames and not args.quiet:
                print("\n".join(summary(_label(args.source), tracker, tally, source, interrupt)))
                print("\n".join(outputs.lines()))
    return interrupt.exit_code


def summary(label: str, tracker: Tracker, tally: Tally, source: Source, interrupt: Interrupt) -> list[str]:
    """The lines printed at the end of a run, without those of the files."""
    state = "interrupted after" if interrupt.signal is not None else "tracked"
    lines = [f"{label}: {state} {tally.frames} frame{'s' if tally.frames != 1 else ''} with {tracker.name}"]
    if tracker.weights_note:
        lines.append(f"  weights    {tracker.weights_note}")
    if tally.tracker_fps is not None:
        lines.append(f"  tracker    {tally.tracker_fps:.1f} FPS ({1000 / tally.tracker_fps:.1f} ms a frame)")
    if tally.loop_fps is not None:
        lines.append(f"  whole run  {tally.loop_fps:.1f} FPS ({tally.wall_s:.1f} s with decoding and writing)")
    if len(tally.lost) == 1:
        lines.append(f"  lost       {tally.lost[0]} of {tally.frames} frames")
    else:
        each = ", ".join(f"#{number} {lost}" for number, lost in enumerate(tally.lost, 1))
        lines.append(f"  lost       {each} of {tally.frames} frames")
    if source.broken:
        lines.append(f"  skipped    {source.broken} broken frame{'s' if source.broken != 1 else ''}")
    if source.missing:
        lines.append(f"  missing    {source.missing} frames announced but not in the file")
    if source.live:
        lines.append(f"  dropped    {source.dropped} frames (connected again {source.reconnects} times)")
    return lines


# --- arguments ----------------------------------------------------------------------------------


def _boxes_given(args: argparse.Namespace) -> list[Box] | None:
    ways = [
        name for name, used in (("--box", args.box), ("--select", args.select), ("--init-from", args.init_from)) if used
    ]
    if len(ways) != 1:
        raise ArgumentError(
            "track",
            "the target",
            "given by one of --box X,Y,W,H, --select or --init-from FILE",
            " and ".join(ways) if ways else "none of them",
        )
    return [_parse_box(text) for text in args.box] if args.box else None


def _parse_box(text: str) -> Box:
    try:
        values = [float(part) for part in re.split(r"[,\s]+", text.strip())]
    except ValueError:
        raise BoxError("track", "--box", "four numbers X,Y,W,H", repr(text)) from None
    return Box.parse(values, "track --box")


def _boxes(args: argparse.Namespace, given: Sequence[Box] | None, first: Frame) -> list[Box]:
    """The boxes, each with a part inside the first frame."""
    if given is not None:
        boxes = list(given)
    elif args.select:
        from fasttrack.cli.window import select_boxes

        boxes = select_boxes(first)
    else:
        boxes = [_box_from(Path(args.init_from), first.index, args.one_based)]
    height, width = first.image.shape[:2]
    for box in boxes:
        if box.clipped(width, height).area <= 0:
            wanted = f"a box that overlaps the {width}×{height} frame"
            raise BoxError("track", "box", wanted, ",".join(f"{v:g}" for v in box.as_tuple()))
    return boxes


def _box_from(path: Path, row: int, one_based: bool) -> Box:
    """Box of a text file: the only row, or the one of this frame; 4 numbers, or 8 of a polygon."""
    try:
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    if not rows:
        raise SourceError(f"{path}: holds no box")
    line = 0 if len(rows) == 1 else row
    if line >= len(rows):
        raise BoxError("track", "--init-from", f"a file with a row for frame {row}", f"{len(rows)} rows in {path}")
    where = f"track --init-from {path} row {line + 1}"
    try:
        values = [float(part) for part in re.split(r"[,;\s]+", rows[line].strip(" \t,;"))]
    except ValueError:
        raise BoxError(where, "box", "four numbers x, y, w, h", repr(rows[line][:80])) from None
    if len(values) == 8:
        xs, ys = values[::2], values[1::2]
        values = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    if one_based and len(values) == 4:
        values = [values[0] - 1, values[1] - 1, *values[2:]]
    return Box.parse(values, where)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    from fasttrack.trackers.options import parse_options

    settings: dict[str, Any] = {} if args.features is None else {"features": args.features}
    given = parse_options(args.settings, "track", "--set")
    if "name" in given:  # create_tracker's own argument; the option for it is --tracker
        raise ArgumentError("track", "--set", "a field of the tracker's Config", "name", "use --tracker NAME")
    for key in given.keys() & settings.keys():
        raise ArgumentError("track", "--set", "each KEY once", f"{key} twice")
    return settings | given


def _outputs(args: argparse.Namespace) -> list[str]:
    return [path for path in (args.out, args.csv, args.json, args.mot, args.rerun, args.sheet) if path is not None]


def _check_options(args: argparse.Namespace) -> list[str]:
    """Refuse what is wrong in itself; the outputs' paths."""
    from fasttrack.video.overlay import check_video_name
    from fasttrack.video.rerun_sink import check_rerun
    from fasttrack.video.sheet import check_sheet_name

    if args.max_frames is not None and args.max_frames < 1:
        raise ArgumentError("track", "--max-frames", "at least 1", str(args.max_frames))
    if args.start < 0:
        raise ArgumentError("track", "--start", "0 or more", str(args.start))
    if args.fps is not None and not 0 < args.fps <= 1000:
        raise ArgumentError("track", "--fps", "over 0 and at most 1000", str(args.fps))
    if args.sheet_frames < 1:
        raise ArgumentError("track", "--sheet-frames", "at least 1", str(args.sheet_frames))
    if args.out is not None:
        check_video_name(args.out)
    if args.sheet is not None:
        check_sheet_name(args.sheet)
    if args.rerun is not None:
        check_rerun(args.rerun, "track", "--rerun")
    if args.show or args.select:
        from fasttrack.cli.window import require_window

        require_window("--show" if args.show else "--select")
    return _outputs(args)


def _sinks(args: argparse.Namespace, source: Source) -> Iterator[Sink]:
    from fasttrack.video import CsvSink, FiftyOneSink, JsonSink, MotSink, OverlaySink, RerunSink, SheetSink

    if args.csv is not None:
        yield CsvSink(args.csv)
    if args.json is not None:
        yield JsonSink(args.json)
    if args.mot is not None:
        yield MotSink(args.mot)
    if args.out is not None:
        yield OverlaySink(args.out, source.fps if args.fps is None else args.fps)
    if args.rerun is not None:
        yield RerunSink(args.rerun, name=_label(args.source))
    if args.fiftyone is not None:
        # Both parts: the folders of many sequences are all called img.
        name = re.sub(r"[^\w.-]+", "_", str(Path(_label(args.source)).with_suffix("")))
        yield FiftyOneSink(args.fiftyone, name, source.fps if args.fps is None else args.fps)
    if args.sheet is not None:
        yield SheetSink(args.sheet, args.sheet_frames, f"{_label(args.source)}  |  {args.tracker}")


def _label(source: str) -> str:
    """What messages call the source: its last parts, without what an address may hold of secrets."""
    if "://" in source:
        return source.split("://", 1)[1].rsplit("@", 1)[-1].split("?", 1)[0]
    path = Path(source)
    return f"webcam {source}" if source.isdigit() else path.name if path.is_file() else "/".join(path.parts[-2:])
