"""Speed on this machine, on the model and data of `small`, as ratios within one run: `study bench
--out FILE`.

All systems take turns (A B A B …) on the same contexts, each in a process of its own, so that what
the machine does besides meets all of them. Each runs by the setting that was fastest for it in the
warming up.
"""

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import psutil
import torch
from transformers import PreTrainedModel

from studylib.bench import process
from studylib.bench.baselines import Answering, Generate, Gkd, Packed, PlainLoop, System
from studylib.bench.table import OURS
from studylib.bench.turns import Say, Turns, questions
from studylib.core import parallel, provenance
from studylib.core.errors import StudyError
from studylib.data import packing
from studylib.data.packing import Pack
from studylib.data.prompts import Prompt
from studylib.experiments.plans import Plan
from studylib.models import flops, loading
from studylib.models.precision import Precision, is_native
from studylib.runs import inputs
from studylib.store.store import Store

SYSTEMS: dict[str, dict[str, type[System]]] = {
    "distilling": {OURS: Packed, "TRL": Gkd, "plain loop": PlainLoop},
    "answering": {OURS: Answering, "generate": Generate},
}
FREE = 0.5  # share of the free memory that one process gets; the others hold their weights
SIZES = (1024, 2048, 4096)  # of the matrices whose best product is the peak
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # that products are fast by


@dataclass(frozen=True)
class Scale:
    """How much is measured: rounds; contexts of a step, and to answer; multiples of a step's
    contexts, and how often these; layers of students; how many numbers of rows at a time and how
    many precisions are tried."""

    rounds: int = 5
    contexts: int = 4
    asked: int = 12
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    passes: int = 3
    depths: tuple[int, ...] = (8, 15, 30)
    rows: int = 4
    precisions: int = 2


FULL = Scale()
QUICK = Scale(
    rounds=2,
    contexts=1,
    asked=3,
    multiples=(1, 2),
    passes=1,
    depths=(15,),
    rows=1,
    precisions=1,
)


def speed(plan: Plan, scale: Scale, say: Say) -> dict:
    """Run all comparisons on the first teacher of a plan; returns what was measured. Raises
    StudyError where our own part fails."""
    torch.set_num_threads(plan.machine.threads)
    best, limit = peak(), FREE * psutil.virtual_memory().available
    results = {"machine": machine(plan), "peak": best[0], "scale": asdict(scale)}
    say(
        f"Best matrix product: {best[0]['gigaflops']:.0f} GFLOP/s ({best[0]['of']}); instructions:"
        f" {results['machine']['instructions']}."
    )
    say(f"Each system has a process of its own; the one that works has {limit / 1e9:.1f} GB.")
    precisions = [product["precision"] for product in best][: scale.precisions]

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pool = prepared(plan, folder / "model")

        def turns(title: str) -> Turns:
            given = (folder / "model", plan.machine)
            makes = {
                name: partial(process.matched, system, *given, name == OURS)
                for name, system in SYSTEMS[title].items()
            }
            return Turns(title, makes, folder, limit, say)

        try:
            with turns("distilling") as distilling:
                results |= distilled(distilling, pool, precisions, scale)
            with turns("answering") as answering:
                results |= answered(answering, pool, precisions, scale)
        except process.Failure as error:
            raise StudyError(f"The bench ended, since ours failed: {error}.") from error
    return results | {"failures": distilling.failures | answering.failures}


def prepared(plan: Plan, folder: Path) -> list[Prompt]:
    """The training contexts of a plan, drawn by seed 0. Its fine-tuned teacher, or the base model
    while there is none, is stored in a folder."""
    store, teacher = Store(), plan.trained[0][0]
    model, tokenizer = inputs.load(store, teacher if _tuned(plan) else teacher.needs["base"])
    loading.save(model, tokenizer, folder)
    learnt = inputs.questions(teacher.needs["train"])
    built = inputs.prompted(teacher, "train", tokenizer, model.config, learnt=learnt)
    return random.Random(0).sample(built, len(built))


def _tuned(plan: Plan) -> bool:
    return Store().result(plan.trained[0][0]) is not None


def machine(plan: Plan) -> dict:
    """What the numbers were measured on."""
    environment, has = provenance.present(), provenance.instructions()
    versions = environment["versions"]
    return {
        "processor": environment["machine"]["processor_name"],
        "instructions": ", ".join(name for name in INSTRUCTIONS if name in has) or "not known",
        "threads": torch.get_num_threads(),
        "torch": versions["torch"],
        "transformers": versions["transformers"],
        "teacher": "fine-tuned" if _tuned(plan) else "base",
    }


def peak() -> list[dict[str, Any]]:
    """The best matrix product of each precision, over sizes, in GFLOP/s, the fastest first; without
    a precision that the processor has no instructions for."""
    best = []
    for precision in filter(is_native, DTYPES):
        rates = {size: max(_gigaflops(precision, size) for _ in range(6)) for size in SIZES}
        size = max(rates, key=rates.__getitem__)
        of = f"{size} by {size}, {precision}"
        best.append({"gigaflops": rates[size], "of": of, "precision": precision})
    return sorted(best, key=lambda product: -product["gigaflops"])


def _gigaflops(precision: Precision, size: int) -> float:
    a, b = torch.randn(2, size, size).to(DTYPES[precision])
    return 2 * size**3 / timed(torch.matmul, a, b) / 1e9


def timed(work: Callable, *given: object) -> float:
    """Seconds of one call."""
    begun = monotonic()
    work(*given)
    return monotonic() - begun


def steps(pool: Sequence[Prompt], count: int, contexts: int) -> list[list[Prompt]]:
    """Contexts of one step after the other, alike in length within a step, as in training."""
    lengths = [len(packing.pack(prompt).ids) for prompt in pool]
    return [
        [pool[i] for i in step]
        for step in packing.schedule(lengths, size=contexts, steps=count, seed=0)
    ]


def distilled(
    turns: Turns, pool: Sequence[Prompt], precisions: Sequence[Precision], scale: Scale
) -> dict:
    """What steps of distillation take, in turns; then what ours alone does: its share of the peak,
    how its cost grows, its cached states."""
    warm, *chosen = steps(pool, scale.rounds + 1, scale.contexts)
    turns.tune(warm, precisions, scale.rows)
    results = {"layers": turns.ours(_layers), "distilling": turns.rounds(chosen)}
    if process.CLEAR.exists():
        results["memory"] = turns.each(_memory, warm)
    else:
        turns.say("Memory is not measured on this system.")
        results["memory"] = {}
    results["rates"] = [turns.ours(_rate, contexts) for contexts in chosen]
    multiples = [pool[: scale.contexts * multiple] for multiple in scale.multiples]
    results["scaling"] = {
        "questions": [questions(contexts) for contexts in multiples],
        "seconds": [
            [turns.ours(_epoch, contexts, scale.contexts) for contexts in multiples]
            for _ in range(scale.passes)
        ],
    }
    results["depths"] = {depth: turns.ours(_of_depth, depth, warm) for depth in scale.depths}
    results["states"] = turns.ours(_states, pool[: scale.contexts * scale.rounds])
    return results


def answered(
    turns: Turns, pool: Sequence[Prompt], precisions: Sequence[Precision], scale: Scale
) -> dict:
    """What answering takes, in turns."""
    size = scale.asked
    warm, *chosen = (pool[size * number :][:size] for number in range(scale.rounds + 1))
    turns.tune(warm, precisions, scale.rows)
    return {"answering": turns.rounds(chosen)}


def _layers(system: System) -> dict[str, int]:
    config = system.match.teacher.config
    return {"teacher": config.num_hidden_layers, "student": system.match.depth}


def _memory(system: System, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Bytes held between steps, which are libraries, weights and optimiser, and of a step at most
    beyond them."""
    system.prepare(prompts)
    gc.collect()
    parallel.give_back()
    before = process.held()
    process.forget_most()
    system.work(prompts)
    return {"held": before, "beyond": process.most_held() - before}


def step_flops(model: PreTrainedModel, packs: Sequence[Pack]) -> float:
    """FLOPs of a training step, forward and backward, the head at answer positions only."""
    training = flops.counted(model).training
    visible = [int(packing.collate([pack]).mask.sum()) for pack in packs]
    return sum(
        training.flops(len(pack.ids), seen, len(pack.answers.at))
        for pack, seen in zip(packs, visible, strict=True)
    )


def _rate(ours: Packed, prompts: Sequence[Prompt]) -> float:
    """GFLOP/s of a step, optimiser and states from disk included in the time."""
    ours.prepare(prompts)
    packs, teacher = [packing.pack(prompt) for prompt in prompts], ours.teacher()
    return step_flops(ours.model, packs) / timed(ours.step, packs, teacher) / 1e9


def _epoch(ours: Packed, prompts: Sequence[Prompt], contexts: int) -> float:
    """Seconds of all that training does with so many contexts once: states, order, steps."""
    return timed(_distil_all, ours, prompts, contexts)


def _distil_all(ours: Packed, prompts: Sequence[Prompt], contexts: int) -> None:
    ours.prepare(prompts)
    packs, teacher = [packing.pack(prompt) for prompt in prompts], ours.teacher()
    lengths, count = [len(pack.ids) for pack in packs], -(-len(packs) // contexts)
    for step in packing.schedule(lengths, size=contexts, steps=count, seed=0):
        ours.step([packs[i] for i in step], teacher)


def _of_depth(ours: Packed, depth: int, prompts: Sequence[Prompt]) -> float:
    """Seconds of a step of a student with so many layers, the median of three."""
    folder = ours.folder / f"depth-{depth}"
    folder.mkdir()
    other = Packed(replace(ours.match, depth=depth), folder)
    other.setting = ours.setting
    other.run(prompts)
    return median(timed(other.work, prompts) for _ in range(3))


def _states(ours: Packed, prompts: Sequence[Prompt]) -> dict[str, float]:
    """Bytes of cached teacher states a question, and seconds to store and to read them."""
    packs, count = [packing.pack(prompt) for prompt in prompts], questions(prompts)
    stored = timed(ours.prepare, prompts)

    def read() -> None:
        served = ours.stored()
        for pack in packs:
            served(pack).sum()

    return {
        "bytes a question": ours.stored_bytes() / count,
        "seconds to store a question": stored / count,
        "seconds to read a question": timed(read) / count,
    }
