"""How trackers are run: the protocols by name."""

from collections.abc import Mapping

from fasttrack.evaluation.protocols.base import Protocol
from fasttrack.evaluation.protocols.one_pass import OnePass, SpatialRobustness, TemporalRobustness
from fasttrack.evaluation.protocols.vot import Supervised, Unsupervised

__all__ = ["PROTOCOLS", "Protocol"]

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (OnePass(), SpatialRobustness(), TemporalRobustness(), Supervised(), Unsupervised())
}
