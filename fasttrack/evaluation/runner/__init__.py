"""Applies protocols to trackers on datasets, one unit at a time, in as many processes as there are, and resumes."""

from fasttrack.evaluation.runner.cluster import RayActors
from fasttrack.evaluation.runner.drive import Summary, Watch, evaluate
from fasttrack.evaluation.runner.plan import parse_shard, shortened
from fasttrack.evaluation.runner.processes import Processes
from fasttrack.evaluation.runner.slots import Here
from fasttrack.evaluation.runner.store import Store

__all__ = ["Here", "Processes", "RayActors", "Store", "Summary", "Watch", "evaluate", "parse_shard", "shortened"]
