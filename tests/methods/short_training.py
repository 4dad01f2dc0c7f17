r"""What the tests of methods share: a small student with its teacher, rows, what they may be asked,
and a short training.

The curves of all methods: PYTHONPATH=tests torchrun --nproc-per-node 2 \
    tests/methods/short_training.py FILE
"""

import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from miniatures import built, model, packs, tokenizer

from studylib.core import parallel
from studylib.data import examples, packing, prompts
from studylib.data.examples import Example
from studylib.evaluation.ask import Models
from studylib.methods import stages
from studylib.methods.base import Method
from studylib.methods.objective import Objective
from studylib.methods.views import Teacher
from studylib.models import parts
from studylib.training import loop
from studylib.training.config import Recipe
from studylib.training.teachers import ComputedStates, Reprompted

VOCABULARY = len(tokenizer())
LOSSES = {"forward_kl": 1.0, "cross_entropy": 0.5}  # of the objective
EVERY = [*stages.known(), "objective"]


def build(questions):
    """The prompts of some questions, as in training."""
    return prompts.build(questions, tokenizer(), mode="zero-shot", training=True)


def asker(method: Method, student=None, seed: int = 0) -> Models:
    """Answers what a method asks, by miniatures of which the teacher runs."""
    teacher = model("llama", seed=1)
    named = {"teacher": teacher, "student": student or model("llama")}
    rows = packs()
    questions = {b.question.id: b.question for row in rows for b in row.asked}
    teachers = [teacher_of(method, teacher)] if method.signals.supervise else []
    online = method.signals.online
    return Models(named, tokenizer(), seed, build, rows[:4], questions, teachers, online)


def teacher_of(method: Method, teacher) -> Teacher:
    """The teacher of a method: by its states in the prompt that it reads, or beside the student."""
    rows, head = (
        packs(method.signals.demonstration or "zero-shot"),
        parts.output_of(teacher, VOCABULARY),
    )
    if method.signals.online:
        return Teacher(head, model=teacher, aligned=range(len(parts.layers(teacher))))
    states = ComputedStates(teacher, rows, method.signals.at)
    return Teacher(head, states if method.signals.at == "all" else Reprompted(states, rows))


@cache
def rows_of(method: type[Method]) -> list[packing.Pack]:
    """The rows that a method learns with its usual options, made once."""
    return new_rows_of(method() if method is not Objective else method(losses=LOSSES))


def new_rows_of(method: Method, seed: int = 0) -> list[packing.Pack]:
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
    teachers = [teacher_of(stage.prototype, model("llama", seed=1))] * stage.uses_teacher
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
    return curve, torch.cat([_in_one_piece(p.detach()).flatten() for p in net.parameters()])


def _in_one_piece(tensor):
    """A tensor that several processes may share."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def curves_of(names: Sequence[str], folder: Path) -> dict[str, list[dict]]:
    """The curves of methods that see four contexts a step, with the norms of their gradients, by
    name."""
    curves, clip = {}, torch.nn.utils.clip_grad_norm_
    for name in names:
        norms: list[float] = []

        def recorded(parameters, most, norms=norms):
            norm = clip(parameters, most)
            norms.append(float(_in_one_piece(norm)))
            return norm

        stage = {"losses": LOSSES} if name == "objective" else {"method": name}
        planned = stages.parse([{"steps": 3} | stage])
        rows = rows_of(type(planned[0].method()))
        with mock.patch.object(torch.nn.utils, "clip_grad_norm_", recorded):
            curve, _ = trained(planned, rows, folder / name, batch_size=4)
        pairs = zip(curve, norms, strict=True)
        curves[name] = [losses | {"gradient norm": norm} for losses, norm in pairs]
    return curves


if __name__ == "__main__":
    torch.set_num_threads(1)
    with parallel.together(torch.device("cpu")):
        curves = curves_of(EVERY, Path(sys.argv[1]).parent)
        if parallel.first():
            Path(sys.argv[1]).write_text(json.dumps(curves))
