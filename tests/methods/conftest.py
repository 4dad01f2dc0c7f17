"""What the tests of methods share: a small student with its teacher, rows, and what they may be
asked."""

import pytest
from miniatures import built, model, packs, tokenizer

from studylib.data import examples, packing, prompts
from studylib.data.examples import Example
from studylib.evaluation.ask import Models
from studylib.methods import stages
from studylib.methods.base import Method
from studylib.methods.views import Teacher
from studylib.models import parts
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


@pytest.fixture(params=[*stages.known(), "objective"])
def method(request) -> Method:
    """Every method, with its default options."""
    if request.param == "objective":
        losses = {"forward_kl": 1.0, "cross_entropy": 0.5}
        return stages.parse([{"steps": 1, "losses": losses}])[0].method()
    return stages.parse([{"steps": 1, "method": request.param}])[0].method()
