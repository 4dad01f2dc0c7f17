"""Which arm a model belongs to, as the plan states it."""

import pandas as pd
from miniatures import planned, stages

from studylib.analysis import roles
from studylib.core.labels import BASE, OTHER_LOSSES, SMALLER_TEACHER, STUDENT


def test_every_line_has_the_arm_that_the_plan_states_or_else_its_role():
    other = {"sizes": [2], "stages": stages(taid=1.0)}
    plan = planned("tiny:gpt_neox", alternative=other, teacher_sizes=[2, 3])
    lines = [
        (STUDENT, "fine-tuned", "taid", OTHER_LOSSES),
        (STUDENT, "control of 3", "forward_kl", SMALLER_TEACHER),
        (STUDENT, "fine-tuned", "forward_kl", STUDENT),
        (BASE, "", "", BASE),
    ]
    table = pd.DataFrame(lines, columns=["role", "teacher", "objective", "stated"])
    armed = roles.named(table, plan.arms)
    assert list(armed.arm) == list(armed.stated)
