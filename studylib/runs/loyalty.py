"""How near a student's distributions are to its teacher's at the gold answers of a test set; of a
student with a trimmed vocabulary, at those that are the same tokens for both."""

from collections import defaultdict
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
    names = [
        name
        for name in student_states
        if comparable is None or name.partition(" ")[2] in comparable
    ]
    names = sorted(names, key=lambda name: int(name.partition(" ")[0]))
    loyalties: dict[str, list[float]] = defaultdict(list)
    for batch in bar.over([names[start : start + 64] for start in range(0, len(names), 64)]):
        both = (
            torch.cat([kept[name] for name in batch]) for kept in (student_states, teacher_states)
        )
        logits = (
            parts.head(model, hidden, size)
            for model, hidden in zip((student, teacher), both, strict=True)
        )
        values = iter(metrics.probability_loyalty(*logits).tolist())
        for name in batch:
            loyalties[name.partition(" ")[2]] += islice(values, len(student_states[name]))
    write_json(
        folder / "loyalty.json",
        {question: sum(values) / len(values) for question, values in loyalties.items()},
    )
    return {"questions": len(loyalties)}


def cost(work: budget.Budget, run: Run) -> budget.Took:
    """Both models' output heads at all gold answers."""
    shapes = [work.shape(run.needs[whose].needs["model"]) for whose in ("student", "teacher's")]
    text = work.text(run.needs["student"], "test")
    looked = text.rows * text.answers
    done = {"comparing": sum(shape.forward.flops(0, 0, looked) for shape in shapes)}
    memory = budget.FLOAT * sum(shape.total + shape.hidden * looked for shape in shapes)
    return budget.took(run, shapes[0], looked, done, memory, 0, 0)
