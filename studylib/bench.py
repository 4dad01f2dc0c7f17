"""Speed on this machine, on the model and data of `small`, as ratios within one run: `study bench --out FILE`.

Contestants take turns (A B A B …) on the same contexts, so that what the machine does besides meets all of them; of
each ratio the median over the rounds is given, and the least and the greatest. Peak memory is that of a process of its own.
"""

import gc
import math
import multiprocessing
import platform
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic

import torch
from torch import nn

from studylib import batch, contestants, kinds, models, packing, runs, teaching, training
from studylib.contestants import CONTESTANTS, Gkd, Match, Packed, PlainLoop
from studylib.packing import Pack
from studylib.prompts import Prompt

ROUNDS, CONTEXTS, ASKED = 5, 4, 12  # contexts a round to distil on, and to answer
DEPTHS, SCALES, SIZES = (8, 15, 30), (1, 2, 4, 8), (8, 16, 32, 64)
GOALS = {
    "distill_vs_trl_later_student": "at least 20",
    "distill_vs_trl_first_student": "at least 14",
    "memory_vs_trl": "at most 0.25",
    "distill_vs_plain_loop": "",
    "share_of_peak": "at least 0.6",
    "answers_vs_generate": "at least 3.5",
    "scaling_exponent": "0.9 to 1.1",
}


def prepared() -> tuple[Match, list[Prompt], str]:
    """The tuned teacher of `small` (or the raw model, while there is none) and its training contexts, drawn by seed 0."""
    (job,) = [job for job in batch.jobs("small") if job.notebook.stem == "capacity_gap"]
    store, tuned = runs.Store(), job.plan.trained[0][0]
    kinds.use_threads(job.plan.threads)
    there = store.result(tuned) is not None
    model, tokenizer = kinds.load(store, tuned if there else tuned.needs["raw"])
    built = kinds.prompted(tuned, "train", tokenizer, model.config, learnt=kinds.questions(tuned.needs["train"]))
    order = packing.schedule([1] * len(built), size=len(built), steps=1, seed=0)[0]
    match = Match(model.requires_grad_(False).eval(), tokenizer, model.config.num_hidden_layers // 2, tuned.parameters["precision"])
    return match, [built[i] for i in order], "tuned" if there else "raw"


def speed(say: Callable[[str], None]) -> dict:
    """Run all comparisons; returns what was measured, with its `ratios`."""
    match, pool, state = prepared()
    found = {"machine": machine(match, state), "peak": peak()}
    say(f"best matrix product: {found['peak']['gigaflops']:.0f} GFLOP/s ({found['peak']['of']})")
    with TemporaryDirectory() as folder:
        found |= distilling(match, pool, Path(folder), say)
        found["share"] = share_of_peak(match, pool, Path(folder), found["peak"]["gigaflops"], say)
        found["scaling"] = scaling(match, pool, Path(folder), say)
        found["states"] = states(match, pool, Path(folder), say)
    found["answering"] = answering_speed(match, pool, say)
    found["memory"] = memory(say)
    found["ratios"] = ratios(found)
    return found


def machine(match: Match, state: str) -> dict:
    """What the numbers were measured on."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    about = {"processor": names[0] if names else platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    versions = {name: version for name, version in runs.provenance()["versions"].items() if name in ("torch", "transformers")}
    layers = {"teacher layers": match.teacher.config.num_hidden_layers, "student layers": match.depth}
    return about | versions | layers | {"precision": match.precision, "teacher": state}


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def peak() -> dict:
    """The best matrix product that is measured here, over sizes and precisions, in GFLOP/s."""
    best = {"gigaflops": 0.0}
    for dtype in (torch.float32, torch.bfloat16):
        for size in (1024, 2048, 4096):
            a, b = torch.randn(2, size, size).to(dtype)
            seconds = min(timed(lambda a=a, b=b: a @ b) for _ in range(6))
            rate = 2 * size**3 / seconds / 1e9
            best = max(
                best, {"gigaflops": rate, "of": f"{size} by {size}, {str(dtype).removeprefix('torch.')}"}, key=lambda one: one["gigaflops"]
            )
    return best


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = monotonic()
    work()
    return monotonic() - begun


def rounds(pool: Sequence[Prompt], size: int, count: int = ROUNDS) -> list[list[Prompt]]:
    """Contexts of one round after the other."""
    return [list(pool[number * size : (number + 1) * size]) for number in range(count)]


def questions(chosen: Sequence[Prompt]) -> int:
    """How many questions these contexts have."""
    return sum(len(prompt.branches) for prompt in chosen)


def distilling(match: Match, pool: Sequence[Prompt], folder: Path, say: Callable[[str], None]) -> dict:
    """Questions a second of each contestant, round by round; `store` is what the first student costs besides."""
    ours, plain, trl = Packed(match, folder / "states"), PlainLoop(match), Gkd(match, folder)
    (folder / "states").mkdir()
    chosen = rounds(pool, CONTEXTS, ROUNDS + 1)
    seconds: dict[str, list[float]] = {"ours": [], "store": [], "trl": [], "plain loop": []}
    for number, contexts in enumerate(chosen):
        for file in ours.folder.iterdir():
            file.unlink()
        took = {"store": timed(lambda c=contexts: ours.store(c)), "ours": timed(lambda c=contexts: ours.distil(c))}
        took |= {"trl": trl.distil(contexts), "plain loop": timed(lambda c=contexts: plain.distil(c))}
        if number:  # the first round is for warming up
            for name, value in took.items():
                seconds[name].append(value)
            say(
                f"round {number}: {questions(contexts)} questions; seconds "
                + ", ".join(f"{name} {value:.2f}" for name, value in took.items())
            )
    return {"distilling": {"questions": [questions(contexts) for contexts in chosen[1:]], "seconds": seconds}}


def flops(model: nn.Module, packs: Sequence[Pack], vocabulary: int) -> float:
    """Model FLOPs of a training step: three times (forward, and twice as much backward) two per weight of a matrix
    product and real token, four per visible pair of places and attention width, and the head at answer positions."""
    blocks = models.layers(model)
    weights = sum(module.weight.numel() for module in blocks.modules() if isinstance(module, nn.Linear))
    shape = model.config
    width = shape.num_attention_heads * (getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads)
    total = 0.0
    for pack in packs:
        visible = int((packing.collate([pack]).mask).sum())
        total += 2 * weights * len(pack.ids) + 4 * width * len(blocks) * visible + 2 * shape.hidden_size * vocabulary * len(pack.answers.at)
    return 3 * total


def share_of_peak(match: Match, pool: Sequence[Prompt], folder: Path, gigaflops: float, say: Callable[[str], None]) -> dict:
    """FLOPs of a student's training step, optimiser and states from disk included in the time, over the best product's."""
    ours, guide = _later(match, pool, folder / "share")
    shares = []
    for number, contexts in enumerate(rounds(pool, CONTEXTS, ROUNDS + 1)):
        packs = [packing.pack(prompt) for prompt in contexts]
        seconds = timed(lambda p=packs: ours.step(p, guide))
        if number:
            shares.append(flops(ours.model, packs, len(match.tokenizer)) / seconds / 1e9 / gigaflops)
    say(f"share of the best product's speed: {median(shares):.2f}")
    return {"rounds": shares}


def _later(match: Match, pool: Sequence[Prompt], folder: Path) -> tuple[Packed, training.Teacher]:
    """A student whose teacher's states are there."""
    ours = Packed(match, folder)
    folder.mkdir(exist_ok=True)
    ours.store(pool[: CONTEXTS * (ROUNDS + 1)])
    return ours, training.Teacher(match.head, teaching.StoredStates(folder.glob("states-*.safetensors")))


def scaling(match: Match, pool: Sequence[Prompt], folder: Path, say: Callable[[str], None]) -> dict:
    """Seconds of training on 1, 2, 4 and 8 times the questions, and of a step of students of several depths."""
    ours, guide = _later(match, pool * 2, folder / "share")
    base = [packing.pack(prompt) for prompt in pool[:CONTEXTS]]
    ours.step(base, guide)
    seconds = {scale: median(timed(lambda s=scale: [ours.step(base, guide) for _ in range(s)]) for _ in range(3)) for scale in SCALES}
    logs = [[math.log(value) for value in pair] for pair in seconds.items()]
    means = [sum(column) / len(logs) for column in zip(*logs, strict=True)]
    slope = sum((x - means[0]) * (y - means[1]) for x, y in logs) / sum((x - means[0]) ** 2 for x, _ in logs)
    depths = {}
    for depth in DEPTHS:
        one = Packed(replace(match, depth=depth), folder / "share")
        one.step(base, guide)
        depths[depth] = median(timed(lambda one=one: one.step(base, guide)) for _ in range(3))
    say(f"1 to 8 times the questions: exponent {slope:.3f}; seconds a step by layers: {depths}")
    return {"seconds": seconds, "exponent": slope, "seconds a step by layers": depths, "questions": questions(pool[:CONTEXTS])}


def states(match: Match, pool: Sequence[Prompt], folder: Path, say: Callable[[str], None]) -> dict:
    """Bytes of stored teacher states a question, and seconds to store and to read them."""
    place = folder / "bytes"
    place.mkdir()
    ours, contexts = Packed(match, place), pool[: CONTEXTS * ROUNDS]
    stored = timed(lambda: ours.store(contexts))
    read = timed(lambda: [teaching.StoredStates(place.glob("*.safetensors"))(packing.pack(prompt)) for prompt in contexts])
    count = questions(contexts)
    size = sum(file.stat().st_size for file in place.iterdir())
    found = {"bytes a question": size / count, "seconds to store a question": stored / count, "seconds to read a question": read / count}
    say("states: " + ", ".join(f"{value:.4g} {name}" for name, value in found.items()))
    return found


def answering_speed(match: Match, pool: Sequence[Prompt], say: Callable[[str], None]) -> dict:
    """Questions answered a second by us and by `generate` at the batch size that is best on the first round."""
    chosen = rounds(pool, ASKED, ROUNDS + 1)
    tried = {size: timed(lambda s=size: contestants.generate(match, chosen[0], s)) for size in SIZES}
    best = min(tried, key=tried.get)
    contestants.answer(match, chosen[0])
    seconds: dict[str, list[float]] = {"ours": [], "generate": []}
    same = 0
    for contexts in chosen[1:]:
        said: list[list[str]] = []
        seconds["ours"].append(timed(lambda c=contexts, s=said: s.append(contestants.answer(match, c))))
        seconds["generate"].append(timed(lambda c=contexts, s=said: s.append(contestants.generate(match, c, best))))
        same += sum(a == b for a, b in zip(*said, strict=True))
        say(f"answering {questions(contexts)} questions: ours {seconds['ours'][-1]:.1f} s, generate {seconds['generate'][-1]:.1f} s")
    counts = [questions(contexts) for contexts in chosen[1:]]
    return {"questions": counts, "seconds": seconds, "batch of generate": best, "same answers": same / sum(counts)}


def memory(say: Callable[[str], None]) -> dict:
    """Peak megabytes of a process that distils one round, for each contestant; and of one that only stores the states, or reads them."""
    found = {}
    for name in (*CONTESTANTS, "store", "nothing"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            found[name] = alone.submit(_peak_memory, name).result()
        say(f"peak memory, {name}: {found[name]:.0f} MB")
    return found


def _peak_memory(name: str) -> float:
    match, pool, _ = prepared()
    with TemporaryDirectory() as folder:
        if name == "nothing":
            return _megabytes()
        contestant = CONTESTANTS["ours" if name == "store" else name](match, *([] if name == "plain loop" else [Path(folder)]))
        if name == "store":
            contestant.store(pool[:CONTEXTS])
        elif name == "ours":
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:  # a later student: the states are there
                other.submit(_store, folder).result()
            contestant.distil(pool[:CONTEXTS])
        else:
            contestant.distil(pool[:CONTEXTS])
        gc.collect()
        return _megabytes()


def _store(folder: str) -> None:
    match, pool, _ = prepared()
    Packed(match, Path(folder)).store(pool[:CONTEXTS])


def _megabytes() -> float:
    """The most memory that this process has held (Linux counts in kB, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def ratios(found: dict) -> dict:
    """Each ratio with its median and its least and greatest value over the rounds."""
    seconds, answered = found["distilling"]["seconds"], found["answering"]["seconds"]
    first = [later + store for later, store in zip(seconds["ours"], seconds["store"], strict=True)]
    used = found["memory"]
    return {
        "distill_vs_trl_later_student": _over(seconds["trl"], seconds["ours"]),
        "distill_vs_trl_first_student": _over(seconds["trl"], first),
        "memory_vs_trl": _spread([used["ours"] / used["trl"]]),
        "distill_vs_plain_loop": _over(seconds["plain loop"], seconds["ours"]),
        "share_of_peak": _spread(found["share"]["rounds"]),
        "answers_vs_generate": _over(answered["generate"], answered["ours"]),
        "scaling_exponent": _spread([found["scaling"]["exponent"]]),
    }


def _over(slower: Sequence[float], faster: Sequence[float]) -> dict:
    return _spread([a / b for a, b in zip(slower, faster, strict=True)])


def _spread(values: Sequence[float]) -> dict:
    return {"median": median(values), "least": min(values), "greatest": max(values), "rounds": len(values)}


def table(found: dict) -> str:
    """The ratios as a Markdown table, with the machine that they were measured on."""
    lines = ["| ratio | median | least to greatest | goal |", "| --- | --- | --- | --- |"]
    for name, value in found["ratios"].items():
        spread = f"{value['least']:.2f} to {value['greatest']:.2f}" if value["rounds"] > 1 else ""
        lines.append(f"| `{name}` | {value['median']:.2f} | {spread} | {GOALS[name]} |")
    about = found["machine"]
    lines += [
        "",
        f"{about['processor']}, {about['threads']} threads, torch {about['torch']}, transformers {about['transformers']}, {about['precision']}; ",
    ]
    lines[-1] += (
        f"best matrix product {found['peak']['gigaflops']:.0f} GFLOP/s; {about['teacher']} teacher of {about['teacher layers']} layers, student of {about['student layers']}; {ROUNDS} rounds."
    )
    return "\n".join(lines) + "\n"
