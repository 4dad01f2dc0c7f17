"""The experiments by name: from the values of a notebook's parameters to a plan. Computes nothing.

plan = EXPERIMENTS["capacity_gap"](families={"gpt_neox": "tiny:gpt_neox"}, ...)
"""

from collections.abc import Callable

from studylib.experiments.capacity_gap import capacity_gap
from studylib.experiments.methods import methods
from studylib.experiments.plans import Plan
from studylib.experiments.prompting_mode import prompting_mode
from studylib.experiments.teacher_choice import teacher_choice

EXPERIMENTS: dict[str, Callable[..., Plan]] = {
    "capacity_gap": capacity_gap,
    "teacher_choice": teacher_choice,
    "prompting_mode": prompting_mode,
    "methods": methods,
}
