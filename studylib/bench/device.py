"""Speed of training on one device, with models of real sizes and random weights: `study bench
--device cuda`. Nothing is fetched.

A step is that of the study: rows of whole contexts with all their questions, matrix products in
bf16, answers alone through the head, AdamW on weights in fp32.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import psutil
import torch

from studylib.core import parallel
from studylib.data import hub
from studylib.models import flops, parts, prune
from studylib.runs.budget import FLOAT, TRAINED
from studylib.runs.token_counts import BRANCH, PREFIX, example, pairs
from studylib.training.config import Recipe
from studylib.training.step_times import step_times

ROWS, MICRO, QUESTIONS, STEPS = 16, 4, 5, 3
LARGE = (
    8192  # of the square matrices whose product shows the device's peak; a quarter of it on a CPU
)


def speed(name: str, say: Callable[[str], None]) -> list[dict]:
    """A line per known model that fits: tokens a second, FLOP/s and their share of the best matrix
    product, gigabytes at most; printed as they come. Raises StudyError for a device that is not
    there."""
    device = parts.device(name)
    peak = _peak(device)
    parallel.give_back()  # what the products took
    room = _memory(device)
    title = torch.cuda.get_device_name(device) if device.type == "cuda" else "this processor"
    say(
        f"{title}: {room / 1e9:.0f} GB, best matrix product in bf16 {peak / 1e12:.2f} TFLOP/s;"
        f" {ROWS} rows a step, {MICRO} at a time"
    )
    say(f"{'model':32} {'tokens/s':>9} {'TFLOP/s':>8} {'of peak':>8} {'GB':>6}")
    lines = []
    for model, entry in _each():
        if FLOAT * TRAINED * entry["parameters"] > 0.9 * room:
            say(
                f"{model:32} does not fit: weights, gradients and moments alone are"
                f" {FLOAT * TRAINED * entry['parameters'] / 1e9:.0f} GB"
            )
            continue
        line: dict[str, Any] = {"model": model} | _measured(model, device, peak)
        say(
            f"{model:32} {line['tokens']:9.0f} {line['flops'] / 1e12:8.2f} {line['share']:8.1%}"
            f" {line['memory'] / 1e9:6.1f}"
        )
        lines.append(line)
    return lines


def _each() -> Iterator[tuple[str, dict]]:
    """The base models that are known, each size once, from the smallest on."""
    base = {name: entry for name, entry in hub.known().items() if "Instruct" not in name}
    yield from sorted(base.items(), key=lambda pair: pair[1]["parameters"])


def _measured(name: str, device: torch.device, peak: float) -> dict[str, float]:
    """The median of a few steps, after one to warm up."""
    config = hub.known_config(name)
    model = prune.hollow(config, config.num_hidden_layers, None, device=device)
    training = flops.counted(prune.hollow(config, config.num_hidden_layers, None)).training
    row = example(PREFIX + QUESTIONS * BRANCH, QUESTIONS)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    recipe = Recipe(ROWS, 1e-6, 0, MICRO, "bf16")
    seconds = median(step_times(model, [row] * ROWS, config.vocab_size, recipe, STEPS + 1)[1:])
    seen = pairs({branch: row.branches.count(branch) for branch in set(row.branches)})
    rate = ROWS * training.flops(len(row.ids), seen, len(row.answers.at)) / seconds
    used = (
        torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else psutil.Process().memory_info().rss
    )
    return {
        "tokens": ROWS * len(row.ids) / seconds,
        "flops": rate,
        "share": rate / peak,
        "memory": float(used),
    }


def _peak(device: torch.device) -> float:
    """FLOP/s of the best of a few large matrix products in bf16."""
    size = LARGE if device.type == "cuda" else LARGE // 4
    left, right = torch.randn(2, size, size, device=device).to(torch.bfloat16)
    took = []
    for _ in range(6):
        started = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - started)
    return 2 * size**3 / min(took)


def _memory(device: torch.device) -> float:
    """Bytes that the device has to give now."""
    return float(
        torch.cuda.mem_get_info(device)[0]
        if device.type == "cuda"
        else psutil.virtual_memory().available
    )
