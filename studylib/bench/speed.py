"""Speed on this machine, on the model and data of `small`, as ratios within one run: `study bench
--out FILE`.

Both sides take turns (A B A B …) on the same contexts, so that what the machine does besides meets
all of them; of a ratio the median over the rounds is given, and the least and the greatest. Peak
memory is that of a process of its own.
"""

import json
import math
import multiprocessing
import random
import re
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import linear_regression, median
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel

from studylib.analysis import tables
from studylib.bench import baselines
from studylib.bench.baselines import Gkd, Match, Packed, PlainLoop
from studylib.core import provenance
from studylib.core.errors import StudyError
from studylib.data import packing
from studylib.data.packing import Pack
from studylib.data.prompts import Prompt
from studylib.experiments.plans import Plan
from studylib.models import flops
from studylib.runs import inputs
from studylib.store.store import Store
from studylib.training import teachers

ROUNDS, PASSES, CONTEXTS, ASKED = 5, 3, 4, 12  # contexts a round to distil on, and to answer
DEPTHS, SCALES, SIZES, PARTS = (8, 15, 30), (1, 2, 4, 8), (8, 16, 32, 64), (1, 2, 4)
GOALS = {
    "distill_vs_trl_later_student": "at least 20",
    "distill_vs_trl_first_student": "at least 14",
    "memory_vs_trl": "at most 0.25",
    "distill_vs_plain_loop": "",
    "share_of_peak": "at least 0.6",
    "answers_vs_generate": "at least 3.5",
    "scaling_exponent": "0.9 to 1.1",
}


def prepared(plan: Plan) -> tuple[Match, list[Prompt], str]:
    """The fine-tuned teacher of a plan (or the base model, while there is none) and its training
    contexts, drawn by seed 0."""
    store, teacher = Store(), plan.trained[0][0]
    inputs.prepare(plan.machine)
    there = store.result(teacher) is not None
    model, tokenizer = inputs.load(store, teacher if there else teacher.needs["base"])
    built = inputs.prompted(
        teacher, "train", tokenizer, model.config, learnt=inputs.questions(teacher.needs["train"])
    )
    drawn = random.Random(0).sample(built, len(built))
    match = Match(
        model.eval(),
        tokenizer,
        model.config.num_hidden_layers // 2,
        teacher.parameters["precision"],
    )
    return match, drawn, "fine-tuned" if there else "base"


def speed(plan: Plan, say: Callable[[str], None]) -> dict:
    """Run all comparisons on the first teacher of a plan; returns what was measured, with its
    `ratios`."""
    match, pool, state = prepared(plan)
    results = {"machine": machine(match, state), "peak": peak()}
    say(
        f"best matrix product: {results['peak']['gigaflops']:.0f} GFLOP/s ({results['peak']['of']})"
    )
    with TemporaryDirectory() as folder:
        results |= distilling(match, pool, Path(folder), say)
        results["share"] = share_of_peak(
            match, pool, Path(folder), results["peak"]["gigaflops"], say
        )
        results["scaling"] = scaling(match, pool, Path(folder), say)
        results["states"] = states(match, pool, Path(folder), say)
    results["answering"] = answering_speed(match, pool, say)
    results["memory"] = memory(plan, results["distilling"]["micro-batches of TRL"], say)
    results["ratios"] = ratios(results)
    return results


def machine(match: Match, state: str) -> dict:
    """What the numbers were measured on."""
    environment = provenance.present()
    hardware = {
        "processor": environment["machine"]["processor_name"],
        "threads": torch.get_num_threads(),
    }
    versions = {
        name: version
        for name, version in environment["versions"].items()
        if name in ("torch", "transformers")
    }
    layers = {
        "teacher layers": match.teacher.config.num_hidden_layers,
        "student layers": match.depth,
    }
    return hardware | versions | layers | {"precision": match.precision, "teacher": state}


def peak() -> dict:
    """The best matrix product that is measured here, over sizes and precisions, in GFLOP/s."""
    best: dict[str, Any] = {"gigaflops": 0.0}
    for dtype in (torch.float32, torch.bfloat16):
        for size in (1024, 2048, 4096):
            a, b = torch.randn(2, size, size).to(dtype)
            seconds = min(timed(torch.matmul, a, b) for _ in range(6))
            rate = 2 * size**3 / seconds / 1e9
            best = max(
                best,
                {"gigaflops": rate, "of": f"{size} by {size}, {str(dtype).removeprefix('torch.')}"},
                key=lambda product: product["gigaflops"],
            )
    return best


def timed(work: Callable, *given: object) -> float:
    """Seconds of one call."""
    begun = monotonic()
    work(*given)
    return monotonic() - begun


def steps(pool: Sequence[Prompt], count: int) -> list[list[Prompt]]:
    """Contexts of one step after the other, alike in length within a step, as in training."""
    lengths = [len(packing.pack(prompt).ids) for prompt in pool]
    return [
        [pool[i] for i in step]
        for step in packing.schedule(lengths, size=CONTEXTS, steps=count, seed=0)
    ]


def questions(chosen: Sequence[Prompt]) -> int:
    """How many questions these contexts have."""
    return sum(len(prompt.branches) for prompt in chosen)


def distilling(
    match: Match, pool: Sequence[Prompt], folder: Path, say: Callable[[str], None]
) -> dict:
    """Seconds of a step on the same questions, contestant by contestant, round by round; `store` is
    what the first student costs besides. TRL has the micro-batches that were fastest in the warming
    up."""
    ours, plain = Packed(match, folder / "states"), PlainLoop(match, folder)
    warm, *chosen = steps(pool, ROUNDS + 1)
    tried = {parts: Gkd(match, folder, parts) for parts in PARTS}
    for trl in (tried[PARTS[0]], *tried.values()):  # the very first step is slow whatever its parts
        trl.distil(warm)
    parts = min(tried, key=lambda parts: tried[parts].seconds)
    trl, tried = tried[parts], {}
    ours.store(warm)
    for contestant in (ours, plain):
        contestant.distil(warm)
    seconds: dict[str, list[float]] = {"ours": [], "store": [], "trl": [], "plain loop": []}
    for number, contexts in enumerate(chosen, 1):
        for file in ours.folder.glob("*.safetensors"):
            file.unlink()
        took = {"store": timed(ours.store, contexts), "ours": timed(ours.distil, contexts)}
        trl.distil(contexts)
        took |= {"trl": trl.seconds, "plain loop": timed(plain.distil, contexts)}
        for name, value in took.items():
            seconds[name].append(value)
        say(
            f"round {number}: {questions(contexts)} questions; seconds "
            + ", ".join(f"{name} {value:.2f}" for name, value in took.items())
        )
    return {
        "distilling": {
            "questions": [questions(contexts) for contexts in chosen],
            "seconds": seconds,
            "micro-batches of TRL": parts,
        }
    }


def step_flops(model: PreTrainedModel, packs: Sequence[Pack]) -> float:
    """FLOPs of a training step, forward and backward, the head at answer positions only."""
    training = flops.counted(model).training
    visible = [int(packing.collate([pack]).mask.sum()) for pack in packs]
    return sum(
        training.flops(len(pack.ids), seen, len(pack.answers.at))
        for pack, seen in zip(packs, visible, strict=True)
    )


def share_of_peak(
    match: Match, pool: Sequence[Prompt], folder: Path, gigaflops: float, say: Callable[[str], None]
) -> dict:
    """FLOPs of a student's step, optimiser and states from disk included in the time, over what the
    best product reaches."""
    ours, shares = Packed(match, folder / "share"), []
    warm, *chosen = steps(pool, ROUNDS + 1)
    ours.store([prompt for contexts in (warm, *chosen) for prompt in contexts])
    ours.distil(warm)
    for contexts in chosen:
        packs, teacher = [packing.pack(prompt) for prompt in contexts], ours.teacher()
        seconds = timed(ours.step, packs, teacher)
        shares.append(step_flops(ours.model, packs) / seconds / 1e9 / gigaflops)
    say(f"share of the best product's speed: {median(shares):.2f}")
    return {"rounds": shares}


def scaling(match: Match, pool: Sequence[Prompt], folder: Path, say: Callable[[str], None]) -> dict:
    """Seconds to store and distil 1, 2, 4 and 8 times the contexts, each read, packed and stored
    anew, in an order of length and steps as in training; and seconds of a step of students of
    several depths."""
    ours, chosen = Packed(match, folder / "scaling"), [pool[: CONTEXTS * scale] for scale in SCALES]
    _distil_all(ours, chosen[0])
    seconds = [[timed(_distil_all, ours, contexts) for contexts in chosen] for _ in range(PASSES)]
    sizes = [math.log(questions(contexts)) for contexts in chosen]
    exponents = [
        linear_regression(sizes, [math.log(value) for value in passed]).slope for passed in seconds
    ]
    depths, (base,) = {}, steps(pool, 1)
    for depth in DEPTHS:
        packed = Packed(replace(match, depth=depth), folder / f"depth-{depth}")
        packed.store(base)
        packed.distil(base)
        depths[depth] = median(timed(packed.distil, base) for _ in range(3))
    say(
        f"1 to {max(SCALES)} times the questions: exponent {median(exponents):.3f}; seconds a step"
        f" by layers: {depths}"
    )
    return {
        "questions": [questions(contexts) for contexts in chosen],
        "seconds": seconds,
        "exponents": exponents,
        "seconds a step by layers": depths,
        "questions a step": questions(base),
    }


def _distil_all(ours: Packed, prompts: Sequence[Prompt]) -> None:
    """All that training does with so many contexts once: states, order, steps."""
    for file in ours.folder.glob("*.safetensors"):
        file.unlink()
    ours.store(prompts)
    packs, teacher = [packing.pack(prompt) for prompt in prompts], ours.teacher()
    for step in packing.schedule(
        [len(pack.ids) for pack in packs], size=CONTEXTS, steps=-(-len(packs) // CONTEXTS), seed=0
    ):
        ours.step([packs[i] for i in step], teacher)


def states(match: Match, pool: Sequence[Prompt], folder: Path, say: Callable[[str], None]) -> dict:
    """Bytes of stored teacher states a question, and seconds to store and to read them."""
    ours, contexts = Packed(match, folder / "bytes"), pool[: CONTEXTS * ROUNDS]
    packs, count = [packing.pack(prompt) for prompt in contexts], questions(contexts)
    stored = timed(ours.store, contexts)

    def read() -> None:
        served = ours.stored()
        for pack in packs:
            served(pack).sum()

    size = sum(file.stat().st_size for file in ours.folder.glob("*.safetensors"))
    costs = {
        "bytes a question": size / count,
        "seconds to store a question": stored / count,
        "seconds to read a question": timed(read) / count,
    }
    say("states: " + ", ".join(f"{value:.4g} {name}" for name, value in costs.items()))
    return costs


def answering_speed(match: Match, pool: Sequence[Prompt], say: Callable[[str], None]) -> dict:
    """Questions answered a second by us and by `generate` at the batch size that is best on the
    first round."""
    chosen = [pool[number * ASKED :][:ASKED] for number in range(ROUNDS + 1)]
    baselines.answer(match, chosen[0])
    baselines.generate(match, chosen[0], min(SIZES))
    tried = {size: timed(baselines.generate, match, chosen[0], size) for size in SIZES}
    best = min(tried, key=tried.__getitem__)
    seconds: dict[str, list[float]] = {"ours": [], "generate": []}
    same = 0
    for contexts in chosen[1:]:
        answers: list[list[str]] = []
        seconds["ours"].append(timed(_noted, answers, baselines.answer, match, contexts))
        seconds["generate"].append(
            timed(_noted, answers, baselines.generate, match, contexts, best)
        )
        same += sum(a == b for a, b in zip(*answers, strict=True))
        say(
            f"answering {questions(contexts)} questions: ours {seconds['ours'][-1]:.1f} s, generate"
            f" {seconds['generate'][-1]:.1f} s"
        )
    counts = [questions(contexts) for contexts in chosen[1:]]
    return {
        "questions": counts,
        "seconds": seconds,
        "batch of generate": best,
        "same answers": same / sum(counts),
    }


def memory(plan: Plan, parts: int, say: Callable[[str], None]) -> dict:
    """Peak megabytes of a process that does one step, for each contestant; of one that stores the
    states, or reads them; and of one that only loads the model."""
    peaks = {}
    with TemporaryDirectory() as folder:
        for name in (
            "nothing",
            "store",
            "read",
            "ours",
            "trl",
            "plain loop",
        ):  # a later student's states are there
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                peaks[name] = alone.submit(_peak_memory, plan, name, Path(folder), parts).result()
            say(f"peak memory, {name}: {peaks[name]:.0f} MB")
    return peaks


def _peak_memory(plan: Plan, name: str, folder: Path, parts: int) -> float:
    match, pool, _ = prepared(plan)
    (contexts,) = steps(pool, 1)
    if name == "store":
        Packed(match, folder / "states").store(contexts)
    elif name == "read":
        served = teachers.StoredStates((folder / "states").glob("*.safetensors"))
        for prompt in contexts:
            served(packing.pack(prompt)).sum()
    elif name == "ours":
        Packed(match, folder / "states").distil(contexts)
    elif name == "trl":
        Gkd(match, folder, parts).distil(contexts)
    elif name == "plain loop":
        PlainLoop(match, folder).distil(contexts)
    return megabytes()


def megabytes() -> float:
    """The most memory that this process has held. `getrusage` would count that of the process which
    started it, too."""
    status = Path("/proc/self/status")
    if status.exists() and (most := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(most[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts in bytes


def _noted(answers: list[list[str]], ask: Callable[..., list[str]], *given: object) -> None:
    answers.append(ask(*given))


def ratios(results: dict) -> dict:
    """Each ratio with its median and its least and greatest value over the rounds."""
    seconds, answered = results["distilling"]["seconds"], results["answering"]["seconds"]
    first = [later + store for later, store in zip(seconds["ours"], seconds["store"], strict=True)]
    used = results["memory"]
    return {
        "distill_vs_trl_later_student": _over(seconds["trl"], seconds["ours"]),
        "distill_vs_trl_first_student": _over(seconds["trl"], first),
        "memory_vs_trl": _spread([used["ours"] / used["trl"]]),
        "distill_vs_plain_loop": _over(seconds["plain loop"], seconds["ours"]),
        "share_of_peak": _spread(results["share"]["rounds"]),
        "answers_vs_generate": _over(answered["generate"], answered["ours"]),
        "scaling_exponent": _spread(results["scaling"]["exponents"]),
    }


def _over(slower: Sequence[float], faster: Sequence[float]) -> dict:
    return _spread([a / b for a, b in zip(slower, faster, strict=True)])


def _spread(values: Sequence[float]) -> dict:
    return {
        "median": median(values),
        "least": min(values),
        "greatest": max(values),
        "rounds": len(values),
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
    with suppress(OSError, ValueError, LookupError, TypeError):
        measurements = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        return file.read_text(encoding="utf-8") == table(measurements)
    return False


def table(results: dict) -> str:
    """The ratios and what they come from as Markdown tables, with the machine that they were
    measured on."""
    ratios = []
    for name, value in results["ratios"].items():
        spread = f"{value['least']:.2f} to {value['greatest']:.2f}" if value["rounds"] > 1 else ""
        ratios.append((f"`{name}`", f"{value['median']:.2f}", spread, GOALS[name]))
    columns = ["ratio", "median", "least to greatest", "goal"]
    parts = [
        tables.markdown(pd.DataFrame(ratios, columns=columns)),
        tables.markdown(pd.DataFrame(measured(results).items(), columns=["measured", ""])),
        _machine(results),
    ]
    return "\n\n".join(parts) + "\n"


def _machine(results: dict) -> str:
    """What was measured and on which machine, in a line."""
    hardware, parts = results["machine"], results["distilling"]["micro-batches of TRL"]
    notes = [
        (
            f"{hardware['processor']}, {hardware['threads']} threads, torch {hardware['torch']},"
            f" transformers {hardware['transformers']}, {hardware['precision']}"
        ),
        f"best matrix product {results['peak']['gigaflops']:.0f} GFLOP/s",
        (
            f"{hardware['teacher']} teacher of {hardware['teacher layers']} layers, student of"
            f" {hardware['student layers']}"
        ),
        (
            f"distilling in {ROUNDS} rounds of {CONTEXTS} contexts, alike in length, a step, by TRL"
            f" in {parts} micro-batches"
        ),
        (
            f"answering in {ROUNDS} rounds of {ASKED} contexts, by `generate`"
            f" {results['answering']['batch of generate']} questions at a time"
        ),
        (
            f"{PASSES} passes over {', '.join(map(str, results['scaling']['questions']))} questions"
            " for the exponent."
        ),
    ]
    return "; ".join(notes)


def measured(results: dict) -> dict[str, str]:
    """What the ratios come from. Seconds, unlike ratios, cannot be compared between machines."""
    counts, seconds = results["distilling"]["questions"], results["distilling"]["seconds"]
    first = {
        "ours, first student": [
            a + b for a, b in zip(seconds["ours"], seconds["store"], strict=True)
        ]
    }
    names = {"ours": "ours, later students", "trl": "TRL", "plain loop": "plain loop"}
    series = first | {title: seconds[name] for name, title in names.items()}
    rates = {
        name: median(q / took for q, took in zip(counts, values, strict=True))
        for name, values in series.items()
    }
    lines = {f"questions distilled a second, {name}": f"{rate:.2f}" for name, rate in rates.items()}
    per_layer = results["scaling"]["seconds a step by layers"].items()
    lines["seconds a step by layers"] = ", ".join(
        f"{layers}: {took:.2f}" for layers, took in per_layer
    )
    lines |= {
        f"states, {name}": f"{value:,.0f}" if value > 1 else f"{value:.2g}"
        for name, value in results["states"].items()
    }
    lines["peak memory, MB"] = ", ".join(
        f"{name} {size:.0f}" for name, size in results["memory"].items()
    )
    lines["answers that are the same as those of `generate`, %"] = (
        f"{100 * results['answering']['same answers']:.1f}"
    )
    return lines
