"""What the plan states of its models reaches the tables that are shown."""

import pandas as pd
from miniatures import planned, stages

from studylib.app.results import Source
from studylib.core.labels import BASE, OTHER_LOSSES, SMALLER_TEACHER, STUDENT


def test_every_line_has_the_arm_that_the_plan_states_or_else_its_role(tmp_path):
    other = {"sizes": [2], "stages": stages(taid=1.0)}
    plan = planned("tiny:gpt_neox", alternative=other, teacher_sizes=[2, 3])
    lines = [
        (STUDENT, "fine-tuned", "taid", OTHER_LOSSES),
        (STUDENT, "control of 3", "forward_kl", SMALLER_TEACHER),
        (STUDENT, "fine-tuned", "forward_kl", STUDENT),
        (BASE, "", "", BASE),
    ]
    table = pd.DataFrame(lines, columns=["role", "teacher", "objective", "stated"])
    armed = Source(plan, tmp_path)._with_arms(table)
    assert list(armed.arm) == list(armed.stated)
