"""What the tests of methods share: a small student with its teacher, rows, what they may be asked,
and a short training.

torchrun --nproc-per-node 2 tests/methods/short_training.py FILE: the curves of all methods
"""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from os import environ
from pathlib import Path

import torch
from miniatures import built, model, packs, tokenizer

from studylib.core import parallel
from studylib.data import examples, packing, prompts
from studylib.data.examples import Example
from studylib.evaluation.ask import Models
from studylib.methods import stages
from studylib.methods.base import Method
from studylib.methods.views import Teacher
from studylib.models import parts
from studylib.training import loop
from studylib.training.config import Recipe
from studylib.training.teachers import ComputedStates, Reprompted

VOCABULARY = len(tokenizer())


def build(questions):
    """The prompts of some questions, as in training."""
    return prompts.build(questions, tokenizer(), mode="zero-shot", training=True)


def asker(method: Method, student=None, seed: int = 0) -> Models:
    """Answers what a method asks, by miniatures of which the teacher runs."""
    teacher = model("llama", seed=1)
    named = {"teacher": teacher, "student": student or model("llama")}
    rows = packs()
    questions = {b.question.id: b.question for row in rows for b in row.asked}
    guides = [guide(method, teacher)] if method.signals.supervise else []
    online = method.signals.online
    return Models(named, tokenizer(), seed, build, rows[:4], questions, guides, online)


def guide(method: Method, teacher) -> Teacher:
    """The teacher of a method: by its states, or beside the student."""
    rows, head = packs(), parts.output_of(teacher, VOCABULARY)
    if method.signals.online:
        return Teacher(head, model=teacher, aligned=range(len(parts.layers(teacher))))
    return Teacher(head, Reprompted(ComputedStates(teacher, rows, method.signals.at), rows))


def rows_of(method: Method, seed: int = 0) -> list[packing.Pack]:
    """The rows that a method learns: those of its own examples, where it makes some."""
    if not method.overrides("data"):
        return packs()
    learnt = [examples.of(branch.question) for prompt in built() for branch in prompt.branches]
    method_examples = method.data(learnt, asker(method, seed=seed))
    assert all(isinstance(example, Example) for example in method_examples)
    assert len({example.id for example in method_examples}) == len(method_examples), (
        "each has an id of its own"
    )
    return [packing.pack(prompt) for prompt in build(method_examples)]


def trained(method_stages, rows, work, *, report=lambda step, values: None, seed=0, batch_size=3):
    """The curve and the weights of a short training."""
    net, (stage,) = model("llama", seed=seed), method_stages
    teachers = [guide(stage.prototype, model("llama", seed=1))] * stage.uses_teacher
    curve = loop.train(
        net,
        rows,
        stages=method_stages,
        recipe=Recipe(batch_size=batch_size, lr=1e-3, seed=5, micro_batch_size=2),
        vocabulary=VOCABULARY,
        work=work,
        teachers=teachers,
        ask=lambda student: asker(stage.prototype, student),
        report=report,
    )
    return curve, torch.cat([p.detach().flatten() for p in net.parameters()])


def every(names: Sequence[str], folder: Path) -> dict[str, list[dict]]:
    """The curves of methods that see four contexts a step, by name."""
    curves = {}
    for name in names:
        planned = stages.parse([{"steps": 2, "method": name}])
        curves[name], _ = trained(
            planned, rows_of(planned[0].method()), folder / name, batch_size=4
        )
    return curves


if __name__ == "__main__":
    torch.set_num_threads(1)
    with parallel.together(torch.device("cpu")) if "RANK" in environ else nullcontext():
        curves = every(list(stages.known()), Path(sys.argv[1]).parent)
        if parallel.first():
            Path(sys.argv[1]).write_text(json.dumps(curves))
