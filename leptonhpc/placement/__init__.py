"""Who does what: devices, policies that place tasks on them, and a simulator that says how long."""

from leptonhpc.placement.choose import Placed, place, place_work
from leptonhpc.placement.cut import best_cut
from leptonhpc.placement.durations import Slowdown
from leptonhpc.placement.job import PlacedJob, place_job
from leptonhpc.placement.machine import Device, Machine, precisions_of, read_machine
from leptonhpc.placement.policies import POLICIES, Placement
from leptonhpc.placement.simulate import Simulation, Span, simulate
from leptonhpc.placement.work import Item, Lane, Work, items_of, work_of

__all__ = [
    "POLICIES",
    "Device",
    "Item",
    "Lane",
    "Machine",
    "Placed",
    "PlacedJob",
    "Placement",
    "Simulation",
    "Slowdown",
    "Span",
    "Work",
    "best_cut",
    "items_of",
    "place",
    "place_job",
    "place_work",
    "precisions_of",
    "read_machine",
    "simulate",
    "work_of",
]
