"""Teacher choice: whom a student should learn from."""

from typing import Any

from studylib.core import sizes as core_sizes
from studylib.core.errors import StudyError
from studylib.core.labels import NOBODY, RAW, TUNED, TWIN, TWO
from studylib.data import prompts
from studylib.experiments.config import Common
from studylib.experiments.families import School, schools, taught
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages
from studylib.runs import supervision
from studylib.store.run import Input, Run


def teacher_choice(
    *, size: int | str, smaller: int | str, demonstration: str, **given: Any
) -> Plan:
    """Whom a student of this `size`, cut from the raw model, should learn from: same start, data,
    order and steps in every arm; of several `rates` each arm takes the one that its own search
    finds best.

    Teachers are the raw model, asked like the student or with a `demonstration`; the tuned one; a
    `smaller` one tuned on gold answers, or taught by the tuned one; the tuned one and that smaller
    one together; the student's own twin; and nobody. Raises StudyError for values that cannot be.
    """
    common = Common(**given)
    prompts.check(demonstration)
    check_distributions(common)
    if demonstration == common.trained:
        raise StudyError(
            "demonstration must be another way of prompting than that of the student,"
            f" {common.trained}."
        )
    for name, written in (("size", size), ("smaller", smaller)):
        if core_sizes.size(written).cut_from:
            raise StudyError(
                f"{name}: {written} is cut in stages: name a size that is cut at once."
            )
    plan = common.plan()
    for school in schools(common, plan):
        about = school.named | {"start": school.start("raw", size), "student": school.name(size)}
        nobody = school.student("raw", size, [], stages=common.gold, learn="gold", targets="gold")
        plan.student(
            nobody,
            about | {"role": "twin", "targets": "gold", "teacher": NOBODY} | taught(common.gold),
            school.asked,
        )
        for name, lessons in _lessons(school, plan, nobody, smaller, demonstration).items():
            one = school.student(
                "raw", size, lessons, stages=common.stages, learn="gold", targets=f"teacher {name}"
            )
            called = {"role": "student", "targets": "teacher", "teacher": name} | taught(
                common.stages
            )
            plan.student(one, about | called, school.asked)
    return plan


def _lessons(
    school: School, plan: Plan, nobody: Run, smaller: int | str, demonstration: str
) -> dict[str, list[supervision.Lesson]]:
    """By whom the students of `teacher_choice` are taught. Teachers that no other arm shows are put
    into the plan, asked as they teach."""
    common, mode = school.common, school.common.trained
    tuned = school.student("tuned", smaller, [], stages=common.gold, learn="gold", targets="gold")
    again = school.student(
        "tuned", smaller, [school.lesson], stages=common.stages, learn="gold", targets="teacher"
    )
    others: dict[str, tuple[Run | Input, str, Run]] = {
        RAW: (school.raw, mode, school.tuned),
        f"{RAW} with a demonstration": (school.raw, demonstration, school.tuned),
        "smaller, tuned": (tuned, mode, tuned),
        "smaller, taught": (again, mode, again),
    }
    for name, (model, asked, counted) in others.items():
        plan.guide(
            model,
            school.named
            | {
                "role": "guide",
                "start": "",
                "targets": "",
                "teacher": name,
                "objective": "",
                "steps": 0,
            },
            asked,
            counted=counted,
        )
    lessons = {TUNED: school.lesson} | {
        name: school.learning_from(name, model, asked) for name, (model, asked, _) in others.items()
    }
    several = {
        TWO: [school.lesson, lessons["smaller, tuned"]],
        TWIN: [school.learning_from(TWIN, nobody, mode)],
    }
    return {name: [lesson] for name, lesson in lessons.items()} | several


def check_distributions(common: Common) -> None:
    """Raise StudyError for students that learn anything but distributions at answers: a teacher
    that is prompted otherwise has no more."""
    stages = method_stages.parse(common.stages)
    if common.learn != "gold" or any(
        stage.online or stage.prototype.signals.at == "all" for stage in stages
    ):
        raise StudyError(
            "Teachers are compared by their distributions at answers: set `learn: gold`, and leave"
            " losses on hidden states and `tokens: all` out of `stages`."
        )
