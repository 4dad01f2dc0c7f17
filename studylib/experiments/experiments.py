"""The experiments by name: from the values of a notebook's parameters to a plan. Computes nothing.

plan = experiments.plan("capacity_gap", globals())
"""

from collections.abc import Mapping
from typing import Any

from studylib.core.checks import checked
from studylib.experiments.capacity_gap import CapacityGap
from studylib.experiments.config import Experiment
from studylib.experiments.methods import Methods
from studylib.experiments.plans import Plan
from studylib.experiments.prompting_mode import PromptingMode
from studylib.experiments.teacher_choice import TeacherChoice

EXPERIMENTS: dict[str, type[Experiment]] = {
    "capacity_gap": CapacityGap,
    "teacher_choice": TeacherChoice,
    "prompting_mode": PromptingMode,
    "methods": Methods,
}


def configured(name: str, values: Mapping[str, Any]) -> Experiment:
    """The experiment of this name with its parameters among these values. Raises StudyError for
    values that cannot be."""
    kind = EXPERIMENTS[name]
    return checked(kind, {field: values[field] for field in kind.model_fields if field in values})


def plan(name: str, values: Mapping[str, Any]) -> Plan:
    """The plan of that experiment."""
    return configured(name, values).plan()
