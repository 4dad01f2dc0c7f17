"""Teacher choice: whom a student should learn from."""

from collections.abc import Mapping
from typing import Self

from pydantic import model_validator

from studylib.core import sizes as core_sizes
from studylib.core.errors import StudyError
from studylib.core.labels import (
    BASE,
    BASE_SHOWN,
    ENSEMBLE,
    FINE_TUNED,
    GOLD_ONLY,
    SELF,
    SMALLER_DISTILLED,
    SMALLER_FINE_TUNED,
    TEACHER,
)
from studylib.experiments.config import Prompt, SinglePrompt, Size, check_distributions
from studylib.experiments.families import Family, families
from studylib.experiments.plans import Plan
from studylib.runs.supervision import Supervision
from studylib.store.run import Input, Run


class TeacherChoice(SinglePrompt):
    """Whom a student of this `size`, cut from the base model, should learn from. Initialisation,
    data, order and steps are the same for every teacher. Of several `lrs` each student takes the
    one that its own search finds best.

    Teachers are the base model, asked like the student or with a `demonstration`, and the
    fine-tuned one. A `smaller` one is fine-tuned on gold answers, or distilled from the fine-tuned
    one. There are also an ensemble of the fine-tuned and the smaller one, the student's own
    control, and none.
    """

    size: Size
    smaller: Size
    demonstration: Prompt

    @model_validator(mode="after")
    def _teachers(self) -> Self:
        check_distributions(self.training)
        if self.demonstration == self.train_prompt:
            raise StudyError(
                "demonstration must be another way of prompting than that of the student,"
                f" {self.train_prompt}."
            )
        for name, written in (("size", self.size), ("smaller", self.smaller)):
            if core_sizes.size(written).cut_from:
                raise StudyError(
                    f"{name}: {written} is cut in stages: name a size that is cut at once."
                )
        return self

    def plan(self) -> Plan:
        """Every run of it."""
        plan = self.begin()
        for family in families(self, plan, self.train_prompt):
            control, _ = family.add(
                GOLD_ONLY, BASE, self.size, [], stages=self.training.gold, title="control"
            )
            for name, supervisions in self._supervisions(family, control).items():
                family.add(
                    name,
                    BASE,
                    self.size,
                    supervisions,
                    stages=self.training.stages,
                    title=f"teacher {name}",
                )
        return plan

    def _supervisions(self, family: Family, control: Run) -> Mapping[str, list[Supervision]]:
        """By whom students are supervised. Teachers that nothing else shows are put into the plan,
        asked as they teach."""
        others = self._others(family)
        blank = {"init": "", "targets": "", "objective": "", "steps": 0}
        for name, (model, mode, counted) in others.items():
            family.plan.ask(
                model,
                family.named | blank | {"role": TEACHER, "teacher": name},
                [mode],
                f"{name} of {counted.label}",
                counted=counted,
            )
        single = {FINE_TUNED: family.supervision} | {
            name: family.supervised_by(name, model, mode)
            for name, (model, mode, _) in others.items()
        }
        return {name: [supervision] for name, supervision in single.items()} | {
            ENSEMBLE: [family.supervision, single[SMALLER_FINE_TUNED]],
            SELF: [family.supervised_by(SELF, control, self.train_prompt)],
        }

    def _others(self, family: Family) -> dict[str, tuple[Run | Input, str, Run]]:
        """Teachers besides the fine-tuned one: the model, how it is prompted, and the run that
        counts its parameters."""
        mode, training = self.train_prompt, self.training
        smaller = family.student(
            FINE_TUNED, self.smaller, [], stages=training.gold, targets="gold", title="control"
        )
        distilled = family.student(
            FINE_TUNED,
            self.smaller,
            [family.supervision],
            stages=training.stages,
            targets="gold",
            title="student",
        )
        return {
            BASE: (family.base, mode, family.teacher),
            BASE_SHOWN: (family.base, self.demonstration, family.teacher),
            SMALLER_FINE_TUNED: (smaller, mode, smaller),
            SMALLER_DISTILLED: (distilled, mode, distilled),
        }
