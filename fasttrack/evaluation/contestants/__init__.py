"""Who takes part in an evaluation: trackers of ours, OpenCV's, and boxes that exist already."""

from fasttrack.evaluation.contestants.base import Contestant, Follower
from fasttrack.evaluation.contestants.parse import list_contestants, parse_contestant, parse_contestants

__all__ = ["Contestant", "Follower", "list_contestants", "parse_contestant", "parse_contestants"]
