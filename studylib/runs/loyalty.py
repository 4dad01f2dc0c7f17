"""How near a student's distributions are to its teacher's at the gold answers of a test set.

Of a student with a trimmed vocabulary only answers that are the same tokens for both count, and the
teacher's probabilities are those of the tokens that are left, given that the next is one of them.
So its loyalty is comparable with its control's, not with that of other vocabularies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from studylib.core.filesystem import write_json
from studylib.core.libraries import load_file, torch, without_gradients
from studylib.core.progress import Progress
from studylib.data import vocabulary
from studylib.evaluation import metrics
from studylib.models import parts
from studylib.runs import budget, comparison, inputs, plan_parts
from studylib.store.run import Run
from studylib.store.store import Store


def plan(student: Run, teachers: Run, *, label: str) -> Run:
    """How near a student's next-token distributions are to its teacher's at the gold answers of a
    test set, from both models' `answers`."""
    return Run(
        "loyalty",
        student.parameters,
        {"student": student, "teacher's": teachers},
        plan_parts.versions_of(student.parameters["eval_prompt"], "answering", "scoring"),
        label,
    )


@without_gradients()
def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Over all tokens of a gold answer, and over all windows in which its context was asked."""
    answered, source = run.needs["student"], run.needs["teacher's"].needs["model"]
    student, tokenizer = inputs.load(store, answered.needs["model"])
    teacher = comparison.teacher(answered, store, tokenizer, source)
    student_states, teacher_states = (
        load_file(store.path(run.needs[whose], "gold.safetensors"))
        for whose in ("student", "teacher's")
    )
    comparable, size = comparison.split_alike(answered, store, source), vocabulary.size(tokenizer)
    names = _paired(student_states, teacher_states, comparable)
    loyalties: dict[str, list[float]] = {_question(name): [] for name in student_states}
    for batch in bar.over([names[start : start + 64] for start in range(0, len(names), 64)]):
        sides = zip((student_states, teacher_states), zip(*batch, strict=True), strict=True)
        both = (torch.cat([states[name] for name in side]) for states, side in sides)
        logits = (
            parts.head(model, hidden, size)
            for model, hidden in zip((student, teacher), both, strict=True)
        )
        values = iter(metrics.probability_loyalty(*logits).tolist())
        for name, _ in batch:
            loyalties[_question(name)] += islice(values, len(student_states[name]))
    means = {
        question: sum(values) / len(values) if values else None
        for question, values in loyalties.items()
    }
    write_json(folder / "loyalty.json", means)
    return {"questions": sum(map(bool, loyalties.values()))}


def _paired(
    student: Mapping[str, torch.Tensor],
    teacher: Mapping[str, torch.Tensor],
    comparable: set[str] | None,
) -> list[tuple[str, str]]:
    """The names of both models' states at the same gold answer, window by window: of all questions,
    or of comparable ones. Of these one is left out whose context the two read in other windows."""
    teacher_names = _by_question(teacher)
    pairs = [
        pair
        for question, names in _by_question(student).items()
        if comparable is None
        or (question in comparable and len(names) == len(teacher_names[question]))
        for pair in zip(names, teacher_names[question], strict=True)
    ]
    return sorted(pairs, key=lambda pair: _number(pair[0]))


def _by_question(states: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """The names of states by question, in the order of windows."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in sorted(states, key=_number):
        names[_question(name)].append(name)
    return names


def _number(name: str) -> int:
    return int(name.partition(" ")[0])


def _question(name: str) -> str:
    return name.partition(" ")[2]


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """Both models' output heads at all gold answers."""
    shapes = [work.shape(run.needs[whose].needs["model"]) for whose in ("student", "teacher's")]
    text = work.text(run.needs["student"], "test")
    looked = text.rows * text.answers
    done = {"comparing": sum(shape.forward.flops(0, 0, looked) for shape in shapes)}
    memory = budget.FLOAT * sum(shape.total + shape.hidden * looked for shape in shapes)
    return budget.took(run, shapes[0], looked, done, memory, 0, 0)
