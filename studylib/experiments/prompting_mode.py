"""Prompting mode: what a demonstration before the text is worth."""

from typing import Self

from pydantic import model_validator

from studylib.core.checks import check_lists
from studylib.core.errors import StudyError
from studylib.core.labels import FINE_TUNED, FINE_TUNED_SHOWN
from studylib.experiments.config import Experiment, Prompt, Size, check_distributions
from studylib.experiments.families import ask_bases, families
from studylib.experiments.plans import Plan


class PromptingMode(Experiment):
    """What a demonstration before the text is worth. Teacher and student of this `size` are trained
    in every way of `train_prompts` and asked in every way of `eval_prompts`.

    By context distillation a student that is trained in the first way learns what the teacher of
    the last way says in that way. Families and siblings are asked as they come, too, in the first
    and in the last way.
    """

    size: Size
    train_prompts: list[Prompt]

    @model_validator(mode="after")
    def _prompts(self) -> Self:
        modes = self.train_prompts
        check_lists(train_prompts=modes)
        check_distributions(self.training)
        if len(modes) < 2 or not {modes[0], modes[-1]} <= set(self.eval_prompts):
            raise StudyError(
                "train_prompts must name two ways of prompting at least, and `eval_prompts` the"
                " first and the last of them."
            )
        return self

    def plan(self) -> Plan:
        """Every run of it."""
        plan = self.begin()
        ask_bases(self, plan, [self.train_prompts[0], self.train_prompts[-1]])
        ways = (families(self, plan, prompt) for prompt in self.train_prompts)
        for several in zip(*ways, strict=True):
            supervised = [(family, family.supervision, FINE_TUNED) for family in several]
            shown = (several[0], several[-1].supervision, FINE_TUNED_SHOWN)
            for family, supervision, name in [*supervised, shown]:
                family.add(
                    name,
                    FINE_TUNED,
                    self.size,
                    [supervision],
                    stages=self.training.stages,
                    targets=self.training.targets,
                    title=f"teacher {name}",
                )
        return plan
