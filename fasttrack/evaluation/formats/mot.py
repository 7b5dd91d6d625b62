"""The format of the MOTChallenge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fasttrack.errors import SourceError
from fasttrack.evaluation.formats.base import Entry, Format, number_text, shift
from fasttrack.evaluation.formats.files import Tree
from fasttrack.evaluation.formats.track import Track, make_track
from fasttrack.evaluation.outcome import INIT, SKIPPED, TRACKED
from fasttrack.evaluation.tables import parse_table

__all__ = ["MOT", "Mot"]


@dataclass(frozen=True)
class Mot(Format):
    """A file per video, a row per frame and target."""

    holds_targets = True

    @property
    def holds_scores(self) -> bool:
        """They are the column ``conf``."""
        return True

    def place(self, sequence: str) -> str:
        """``NAME.txt``."""
        return f"{sequence}.txt"

    def entries(self, tree: Tree) -> list[Entry]:
        """Text files of the root."""
        stems = [name.removesuffix(".txt") for name in tree.names if name.endswith(".txt") and "/" not in name]
        return [Entry(stem, self.place(stem)) for stem in stems]

    def load(self, tree: Tree, entry: Entry) -> list[Track]:
        """A track per target; each as long as the last frame of the file, without a box where it has no row."""
        name = tree.label(entry.file)
        table = parse_table(tree.text(entry.file), name, columns=(7, 8, 9, 10))
        keys = table[:, :2]
        # NaN is not equal to its floor.
        bad = np.flatnonzero((keys < 1).any(1) | (keys != np.floor(keys)).any(1))
        if len(bad):
            raise SourceError(f"{name}:{bad[0] + 1}: frame and id must be whole numbers from 1 on")
        _, firsts = np.unique(keys, axis=0, return_index=True)
        if len(firsts) != len(keys):
            twice = min(set(range(len(keys))) - set(firsts.tolist()))
            raise SourceError(f"{name}:{twice + 1}: frame {keys[twice, 0]:.0f} of target {keys[twice, 1]:.0f} twice")
        count, tracks = int(keys[:, 0].max()), []
        for target in np.unique(keys[:, 1]).tolist():
            own = table[keys[:, 1] == target]
            rows = own[:, 0].astype(np.int64) - 1
            boxes, scores = np.full((count, 4), np.nan), np.full(count, np.nan)
            boxes[rows] = shift(own[:, 2:6], -self.base)
            scores[rows] = np.where(own[:, 6] == -1, np.nan, own[:, 6])
            states = np.full(count, SKIPPED, np.int8)
            states[rows] = TRACKED
            states[rows.min()] = INIT
            tracks.append(make_track(entry.sequence, boxes, states, scores=scores, target=int(target)))
        return tracks

    def files(self, tracks: Sequence[Track]) -> Iterator[tuple[str, str]]:
        """One file with the rows of all targets in the order of frames."""
        lines: list[tuple[int, int, str]] = []
        for target in sorted({track.target for track in tracks}):
            track = self.single([track for track in tracks if track.target == target])
            boxes = shift(track.boxes, self.base)
            for row in np.flatnonzero(~np.isnan(boxes).any(1)).tolist():
                box = ",".join(number_text(value, self.decimals) for value in boxes[row].tolist())
                score = track.scores[row]
                confidence = number_text(-1.0 if np.isnan(score) else float(score))
                lines.append((row + 1, target, f"{row + 1},{target},{box},{confidence},-1,-1,-1\n"))
        yield self.place(tracks[0].sequence), "".join(line for *_, line in sorted(lines))


MOT = Mot("mot", "NAME.txt: frame,id,x,y,w,h,conf,-1,-1,-1", decimals=None)
"""MOTChallenge: ``NAME.txt``, rows ``frame,id,x,y,w,h,conf,-1,-1,-1`` with commas; frames, ids, corners count from 1.

A frame without a box has no row; ``conf`` is -1 where there is none. For the server: a zip with the files in its root.
Source: motchallenge.net, instructions ("All frame numbers, target IDs and bounding boxes are 1-based").
"""
