"""The ratios of a bench and what they come from, as tables."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import pandas as pd

from studylib.analysis import tables
from studylib.core.errors import StudyError

OURS, FIRST = "ours", "ours, first student"
GOALS = {
    "distill_vs_trl_later_student": "at least 20",
    "distill_vs_trl_first_student": "at least 12",
    "memory_vs_trl": "at most 0.25",
    "distill_vs_plain_loop": "",
    "share_of_peak": "at least 0.6 (fp32), 0.4 (bf16)",
    "answers_vs_generate": "at least 3.5",
    "scaling_exponent": "0.9 to 1.1",
}


def beside(out: Path) -> Path:
    """The file of the table beside that of the measurements. Raises StudyError for one that is no
    JSON file, and where something else lies there."""
    file = out.with_suffix(".md")
    if out.suffix != ".json":
        raise StudyError(
            f"--out {out} must be a .json file: the table is written beside it as .md."
        )
    if file.exists() and not wrote(file):
        raise StudyError(
            f"{file} would be replaced, and is not the table of {out}: move it away, or name"
            " another file."
        )
    return file


def wrote(file: Path) -> bool:
    """Whether a file is the table of the measurements beside it."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        measurements = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        return file.read_text(encoding="utf-8") == table(measurements)
    return False


def ratios(results: Mapping) -> dict[str, list[float]]:
    """Each ratio in every round; without those of a system that failed."""
    distilling, used = _seconds(results), results["memory"]
    answering = results["answering"]["seconds"]
    compared = {
        "distill_vs_trl_later_student": (distilling, "TRL", OURS),
        "distill_vs_trl_first_student": (distilling, "TRL", FIRST),
        "distill_vs_plain_loop": (distilling, "plain loop", OURS),
        "answers_vs_generate": (answering, "generate", OURS),
    }
    every = {
        name: [a / b for a, b in zip(seconds[slower], seconds[faster], strict=True)]
        for name, (seconds, slower, faster) in compared.items()
        if slower in seconds
    }
    every["share_of_peak"] = [rate / results["peak"]["gigaflops"] for rate in results["rates"]]
    every["scaling_exponent"] = _exponents(results["scaling"])
    if "TRL" in used and used["TRL"]["beyond"]:
        every["memory_vs_trl"] = [used[OURS]["beyond"] / used["TRL"]["beyond"]]
    return {name: every[name] for name in GOALS if name in every}


def _exponents(scaling: Mapping[str, Any]) -> list[float]:
    """The slopes of log seconds against log questions, of each pass."""
    sizes = [math.log(count) for count in scaling["questions"]]
    return [
        linear_regression(sizes, [math.log(value) for value in passed]).slope
        for passed in scaling["seconds"]
    ]


def _seconds(results: Mapping) -> dict[str, list[float]]:
    """Seconds of each round of distillation; of our first student with what it is prepared by."""
    distilling = results["distilling"]
    pairs = zip(distilling["seconds"][OURS], distilling["prepared"][OURS], strict=True)
    return distilling["seconds"] | {FIRST: [seconds + ready for seconds, ready in pairs]}


def table(results: Mapping) -> str:
    """The ratios, the goals, and what they come from as Markdown tables, with the machine that they
    were measured on."""
    lines = [
        (f"`{name}`", f"{median(values):.2f}", _spread(values), GOALS[name])
        for name, values in ratios(results).items()
    ]
    columns = ["ratio", "median", "least to greatest", "goal"]
    failures = [f"{name} failed: {reason}." for name, reason in results["failures"].items()]
    parts = [
        tables.markdown(pd.DataFrame(lines, columns=columns)),
        *failures,
        tables.markdown(pd.DataFrame(_measured(results), columns=["measured", ""])),
        "; ".join(_notes(results)) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if len(values) > 1 else ""


def _measured(results: Mapping) -> Iterator[tuple[str, str]]:
    """What the ratios come from. Seconds, unlike ratios, cannot be compared between machines."""
    counts = results["distilling"]["questions"]
    for name, seconds in _seconds(results).items():
        rate = median(count / took for count, took in zip(counts, seconds, strict=True))
        yield f"questions distilled a second, {name}", f"{rate:.2f}"
    depths = ", ".join(f"{layers}: {took:.2f}" for layers, took in results["depths"].items())
    yield "seconds a step by layers", depths
    for name, value in results["states"].items():
        yield f"states, {name}", f"{value:,.0f}" if value > 1 else f"{value:.2g}"
    for kind, words in (("held", "between steps"), ("beyond", "beyond that at most, in a step")):
        sizes = [f"{name} {used[kind] / 1e6:.0f}" for name, used in results["memory"].items()]
        if sizes:
            yield f"memory {words}, MB", ", ".join(sizes)
    for name, share in results["answering"]["same"].items():
        if name != OURS:
            yield f"answers of `{name}` that are ours, %", f"{100 * share:.1f}"


def _notes(results: Mapping) -> Iterator[str]:
    """What was measured and on which machine."""
    hardware, layers, scale = results["machine"], results["layers"], results["scale"]
    product = results["peak"]
    yield (
        f"{hardware['processor']} (instructions: {hardware['instructions']}),"
        f" {hardware['threads']} threads, torch {hardware['torch']}, transformers"
        f" {hardware['transformers']}"
    )
    yield f"best matrix product {product['gigaflops']:.0f} GFLOP/s ({product['of']})"
    yield (
        f"{hardware['teacher']} teacher of {layers['teacher']} layers, student of"
        f" {layers['student']}"
    )
    for title, contexts in (("distilling", scale["contexts"]), ("answering", scale["asked"])):
        settings = results[title]["settings"].items()
        yield (
            f"{title} in {scale['rounds']} rounds of {contexts} contexts"
            f" ({'; '.join(f'{name} in {setting}' for name, setting in settings)})"
        )
    counts = ", ".join(map(str, results["scaling"]["questions"]))
    yield f"{scale['passes']} passes over {counts} questions for the exponent"
