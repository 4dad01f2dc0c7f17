"""Prompting mode: what a demonstration before the text is worth."""

from collections.abc import Sequence
from typing import Any

from studylib.core.errors import StudyError
from studylib.core.labels import FOLDED, TUNED
from studylib.experiments.config import Common, check_lists
from studylib.experiments.families import schools, taught
from studylib.experiments.plans import Plan
from studylib.experiments.teacher_choice import check_distributions


def prompting_mode(*, size: int | str, trained: Sequence[str], **given: Any) -> Plan:
    """What a demonstration before the text is worth: teacher and student of this `size`, each
    trained in every way of `trained` and asked in every way of `asked`; and a student that is
    trained in the first way to say what the teacher of the last way says in that way, so that the
    demonstration is folded into its weights. Raises StudyError for values that cannot be.
    """
    check_lists(trained=trained)
    ways = [Common(trained=mode, **given) for mode in trained]
    check_distributions(ways[0])
    if len(trained) < 2 or not {trained[0], trained[-1]} <= set(ways[0].asked):
        raise StudyError(
            "trained must name two ways of prompting at least, and `asked` the first and the last"
            " of them."
        )
    plan = ways[0].plan()
    for several in zip(*(schools(way, plan) for way in ways), strict=True):
        first, last = several[0], several[-1]
        taught_by = [(school, school.lesson, TUNED) for school in several]
        for school, lesson, name in [*taught_by, (first, last.lesson, FOLDED)]:
            how = dict(stages=school.common.stages, learn=school.common.learn)
            one = school.student("tuned", size, [lesson], **how, targets=f"teacher {name}")
            called = {
                "role": "student",
                "student": school.name(size),
                "start": school.start("tuned", size),
                "targets": "teacher",
                "teacher": name,
            }
            plan.student(one, school.named | called | taught(**how), school.asked)
    return plan
