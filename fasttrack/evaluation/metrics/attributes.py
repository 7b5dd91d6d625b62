"""Scores by the attributes of the sequences: occlusion, fast motion, scale variation and so on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fasttrack.evaluation.metrics.one_pass import Scores, mean_scores
from fasttrack.evaluation.sequence import Sequence

__all__ = ["AttributeScores", "by_attribute"]


@dataclass(frozen=True, eq=False)
class AttributeScores:
    """Mean scores over the sequences that have an attribute.

    Attributes:
        sequences: how many these are.
        scores: their mean curves, each sequence of equal weight.
    """

    sequences: int
    scores: Scores


def by_attribute(scores: Mapping[str, Scores], sequences: Iterable[Sequence]) -> dict[str, AttributeScores]:
    """Scores by attribute, in alphabetical order of the attributes.

    A sequence counts under each of its attributes, and wholly: attributes are of sequences, not of frames (OTB, UAV123,
    LaSOT). The toolkits draw no plot for an attribute of a single sequence; here it is in the table with its count.

    Args:
        scores: sequence name → its scores; sequences without any are left out.
        sequences: of the dataset.
    """
    members: dict[str, list[Scores]] = {}
    for sequence in sequences:
        if sequence.name in scores and scores[sequence.name].frames:
            for attribute in sequence.attributes:
                members.setdefault(attribute, []).append(scores[sequence.name])
    return {name: AttributeScores(len(members[name]), mean_scores(members[name])) for name in sorted(members)}
