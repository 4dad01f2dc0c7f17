"""`study plan`: every run of a profile with what it takes, before anything is fetched or started.

device = named("h100"); table = runs(notebooks.jobs("paper"), device)
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import psutil

from studylib.app import time_budget
from studylib.app.notebooks import Job
from studylib.app.run_states import states
from studylib.core.errors import StudyError
from studylib.core.filesystem import free, home
from studylib.core.libraries import torch
from studylib.core.machine import Machine
from studylib.core.progress import spoken
from studylib.experiments.plans import Plan
from studylib.models import parts
from studylib.runs import kinds
from studylib.runs.budget import FLOAT, SHARED, Budget, Took
from studylib.store.run import Run
from studylib.store.store import Store

# Dense FLOP/s in fp32 and bf16 (without TF32 and sparsity) and bytes, by their makers' data sheets,
# from memory.
DEVICES = {
    "t4": (8.1e12, 65e12, 16e9),
    "l4": (30.3e12, 121e12, 24e9),
    "rtx4090": (82.6e12, 165e12, 24e9),
    "a100-40": (19.5e12, 312e12, 40e9),
    "a100-80": (19.5e12, 312e12, 80e9),
    "h100": (67e12, 989e12, 80e9),
    "h200": (67e12, 989e12, 141e9),
}
# Of the peak, assumed: answering reads all weights for a few tokens at a time.
SHARE = {"training": 0.4, "reading": 0.4, "reconstruction": 0.3, "answering": 0.1, "comparing": 0.3}
# Seconds that a run takes besides, and bytes of weights read a second, assumed.
BEGIN, READ = 3.0, 1e9
CONTEXT = 0.8e9  # bytes that a GPU's runtime takes itself
# By all processes of a run; what answers has all of the model.
SHARDED = ("teacher", "student", "lr_search")
COLUMNS = ["parameters", "tokens", "flops", "memory", "disk", "seconds"]


@dataclass(frozen=True)
class Card:
    """A device of which only its data sheet is known."""

    name: str
    fp32: float
    bf16: float
    memory: float
    taken: float = CONTEXT

    def seconds(self, run: Run, took: Took) -> float:
        """At an assumed share of its peak; comparing is in fp32 always, and answering where a
        training is watched."""
        peak = self.bf16 if run.parameters.get("precision") == "bf16" else self.fp32
        peaks = {
            "training": peak,
            "reading": peak,
            "reconstruction": peak,
            "answering": peak if run.kind in ("answers", "cost") else self.fp32,
            "comparing": self.fp32,
        }
        return (
            BEGIN
            + FLOAT * took.parameters / READ
            + sum(flops / (SHARE[how] * peaks[how]) for how, flops in took.done.items())
        )


@dataclass(frozen=True)
class Here:
    """This machine, calibrated: `seconds` of a run are as a step of training shows them."""

    seconds: Callable[[Run, Took], float]
    memory: float
    taken: float
    name: str = "this machine"


# What runs are computed on: what it is called, bytes of its memory, bytes that a process takes
# before it has a model, seconds of a run.
Device = Card | Here


def named(device: str) -> Card:
    """A card of `DEVICES`, or one given as FLOP/s and gigabytes: 165e12:24. Raises StudyError for
    anything else."""
    if device in DEVICES:
        return Card(device, *DEVICES[device])
    if match := re.fullmatch(r"([0-9.]+(?:e[0-9]+)?):([0-9.]+)", device):
        return Card(device, float(match[1]), float(match[1]), 1e9 * float(match[2]))
    raise StudyError(
        f"device {device!r} is unknown: use {', '.join(DEVICES)}, or its FLOP/s and gigabytes as in"
        " 165e12:24."
    )


def here(plans: Sequence[Plan], work: Budget) -> Here:
    """This machine, after a training step of the largest model that the plans train."""
    room, taken = _room(plans[0].machine)
    pace = time_budget.calibrated((run for plan in plans for run in plan.runs), plans[0], work)
    return Here(pace.seconds, room, taken)


def _room(machine: Machine) -> tuple[float, float]:
    """Bytes of memory of the device that runs are made on, and those that are taken before there is
    a model."""
    device = parts.device(machine.device)
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory, CONTEXT
    return psutil.virtual_memory().total, psutil.Process().memory_info().rss


def runs(jobs: Iterable[Job], device: Device, work: Budget) -> pd.DataFrame:
    """A line per run, those that several notebooks need once: what it is, its state, parameters,
    tokens, FLOPs, bytes of memory and of disk (and beside it while it goes on), seconds, whether it
    fits, whether its texts are estimated."""
    store, lines = Store().snapshot(), dict[str, dict]()
    for job in jobs:
        for run, state, _ in states(job.plan, job.folder, store):
            if run.planned not in lines:
                took = kinds.took(work, run)
                memory = _needed(run, took, job.plan, device.taken)
                lines[run.planned] = {
                    "notebook": job.notebook.stem,
                    "kind": run.kind,
                    "run": run.label,
                    "state": state,
                    "parameters": took.parameters,
                    "tokens": took.tokens,
                    "flops": took.flops,
                    "memory": memory,
                    "disk": took.disk,
                    "beside": took.work,
                    "seconds": device.seconds(run, took),
                    "fits": memory <= device.memory,
                    "estimated": took.estimated,
                    "planned": run.planned,
                }
    return pd.DataFrame(lines.values())


def grouped(table: pd.DataFrame) -> pd.DataFrame:
    """The runs that differ in their seed alone in one line, with their number, numbers as means."""
    unseeded = table.assign(run=table.run.str.replace(r" s\d+", "", n=1, regex=True))
    groups = unseeded.groupby(["notebook", "kind", "run", "state"], sort=False)
    return groups[COLUMNS].mean().assign(count=groups.size()).reset_index()


def lines_of(table: pd.DataFrame, device: Device) -> list[str]:
    """The table line by line, totals, and what will not fit."""
    left, estimated = table[table.state != "done"], table.estimated.sum()
    unknown = (
        f"Texts of {estimated} runs are not at hand: their tokens are estimated from the size of"
        " published sets."
    )
    return [
        f"{'runs':>4} {'state':8} {'kind':8} {'parameters':>10} {'tokens':>8} {'FLOP':>8}"
        f" {'memory GB':>9} {'disk GB':>8} {'time':>11}  run",
        *(
            f"{run.count:4} {run.state:8} {run.kind:8} {run.parameters / 1e6:9.1f}M"
            f" {run.tokens / 1e6:7.2f}M {run.flops:8.1e} {run.memory / 1e9:9.1f}"
            f" {run.disk / 1e9:8.2f} {spoken(run.seconds):>11}  {run.run}"
            for run in grouped(table).itertuples()
        ),
        "",
        *([unknown] if estimated else []),
        f"{len(table)} runs, {len(left)} not done in the store: {left.flops.sum():.1e} FLOP, about"
        f" {spoken(left.seconds.sum())} on {device.name},",
        f"one after the other; {table.disk.sum() / 1e9:.1f} GB of disk in all, and up to"
        f" {table.beside.max() / 1e9:.1f} GB beside while a run goes on.",
        *(
            f"WARNING: {run.kind} {run.run} takes about {run.memory / 1e9:.1f} GB of memory,"
            f" {device.name} has {device.memory / 1e9:.1f} GB."
            for run in (grouped(left[~left.fits]).itertuples() if len(left) else ())
        ),
    ]


def too_large(plan: Plan, missing: Sequence[Run]) -> Iterator[str]:
    """A warning for each of the missing runs that this machine's memory, or its GPU's, will not
    hold, as far as their sizes are known; and one if all of them will not find room on the disk."""
    took = [kinds.took(SHARED, run) for run in missing]
    disk = sum(each.disk for each in took) + max((each.work for each in took), default=0)
    if disk > free(home()):
        yield (
            f"WARNING: all of it takes about {disk / 1e9:.1f} GB of disk, {free(home()) / 1e9:.1f}"
            f" GB are free in {home()}: make room."
        )
    room, taken = _room(plan.machine)
    for run, each in zip(missing, took, strict=True):
        needed = _needed(run, each, plan, taken)
        if needed > room:
            yield (
                f"WARNING: {run.label} takes about {needed / 1e9:.1f} GB of memory, there are"
                f" {room / 1e9:.1f} GB: see `study plan`."
            )


def _needed(run: Run, took: Took, plan: Plan, taken: float) -> float:
    """Bytes of memory that each process of a run needs."""
    return took.memory / (plan.machine.processes if run.kind in SHARDED else 1) + taken
