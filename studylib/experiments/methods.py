"""Every method on one student: one fine-tuned teacher, one start, one order of contexts, equal
steps."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from studylib.core.errors import StudyError
from studylib.core.labels import NOBODY, TUNED
from studylib.experiments.config import Common
from studylib.experiments.families import School, schools, taught
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages


def methods(
    *, size: int | str, methods: Sequence[str], control_steps: Sequence[int], **given: Any
) -> Plan:
    """What each of the `methods` (all that are known, if none is named) adds to the student of this
    `size` that is cut from the fine-tuned teacher: beside its control, trained for each of
    `control_steps` too, and beside plain distillation, the `stages`. Raises StudyError for values
    that cannot be."""
    common = Common(**given)
    steps = method_stages.steps(method_stages.parse(common.stages))
    chosen = _chosen(methods)
    plan = common.plan()
    for school in schools(common, plan):
        for count in sorted({steps, *control_steps}):
            gold = method_stages.gold(count)
            _student(
                plan, school, size, gold, "twin", method_stages.title(method_stages.parse(gold))
            )
        plain = method_stages.title(method_stages.parse(common.stages))
        _student(plan, school, size, common.stages, "student", plain)
        for name in chosen:
            recipe = method_stages.known()[name].recipe(steps)
            _student(plan, school, size, recipe, "student", name)
    return plan


def _chosen(names: Sequence[str]) -> list[str]:
    """The methods of these names, in their order; all where none is named."""
    known = method_stages.known()
    for name in names:
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            raise StudyError(
                f"methods names {name!r}, which is none:"
                f" {f'did you mean {near[0]}? ' if near else ''}Known are {', '.join(known)}."
            )
        if list(names).count(name) > 1:
            raise StudyError(f"methods names {name!r} twice.")
    return list(names) or list(known)


def _student(
    plan: Plan,
    school: School,
    size: int | str,
    stages: Sequence[Mapping],
    role: str,
    objective: str,
) -> None:
    """Put a student or a control into the plan, asked in every way that its method answers by."""
    gold = role == "twin"
    lessons = [] if gold else [school.lesson]
    learn = "gold" if gold else school.common.learn
    model = school.student("tuned", size, lessons, stages=stages, learn=learn, targets=objective)
    called = school.named | {
        "role": role,
        "student": school.name(size),
        "start": school.start("tuned", size),
        "targets": "gold" if gold else "teacher",
        "teacher": NOBODY if gold else TUNED,
    }
    called |= taught(stages, learn) | {"objective": objective}
    plan.student(model, called, school.asked)
    for way in method_stages.parse(stages)[-1].prototype.ways:
        if way:
            named = {"objective": f"{objective}, {way}"}
            plan.student(model, called | named, school.asked, way=way)
