"""Capacity gap: how much of its teacher a student of each size keeps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Self

from pydantic import model_validator

from studylib.core import sizes as core_sizes
from studylib.core.errors import StudyError
from studylib.core.labels import (
    BASE,
    CONTROL,
    FINE_TUNED,
    GOLD_ONLY,
    OTHER_LOSSES,
    PRETRAINED,
    STUDENT,
)
from studylib.experiments.config import (
    Part,
    Prompt,
    SinglePrompt,
    Sizes,
    Stages,
    check_distributions,
)
from studylib.experiments.families import Family, ask_bases, check_teachers, families
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages
from studylib.runs import plan_parts
from studylib.store.run import Run


class Alternative(Part):
    """Other losses, for students of some sizes and siblings."""

    sizes: Sizes
    stages: Stages


class Arm(NamedTuple):
    """Models of several sizes with one initialisation that learn alike: students from the teacher,
    controls from gold answers alone."""

    name: str
    init: str
    sizes: Sequence[int | str]
    stages: Sequence[Mapping]
    targets: str

    def add(self, family: Family, written: int | str) -> Run:
        """Put its model of this size into the plan, what it costs included. Its `steps` are those
        of all students that it was cut from, too."""
        steps = method_stages.steps(method_stages.parse(self.stages))
        model, called = family.add(
            GOLD_ONLY if self.name == CONTROL else FINE_TUNED,
            self.init,
            written,
            [family.supervision],
            stages=self.stages,
            targets=self.targets,
            title=self.name,
            arm=self.name,
            steps=steps * core_sizes.size(written).stages,
        )
        family.plan.cost(model, family.teacher, called)
        return model


class CapacityGap(SinglePrompt):
    """How much of its teacher a student of each size keeps.

    Each family and seed has a fine-tuned teacher. Students are cut from it (`sizes`, as
    `core.sizes` reads them), from the base model (`from_base`), or are the family's siblings.
    Beside each stands its control. Of several `lrs` each takes the one that its own search finds
    best.

    Some learn by other losses, too (`alternative`). The first of `teacher_sizes` is also taught by
    the controls of the others, not by the whole teacher. Families and siblings are asked as they
    come, too, in every way of `base_prompts`.
    """

    sizes: Sizes = []
    from_base: Sizes = []
    alternative: Alternative | None = None
    teacher_sizes: Sizes = []
    base_prompts: list[Prompt] = []

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if not self.sizes and not self.siblings:
            raise StudyError("sizes is empty: name at least one, or `siblings`.")
        if named := [size for size in self.sizes if core_sizes.size(size).sibling]:
            raise StudyError(
                f"sizes names {named[0]!r}, which is no size of a cut student: name a sibling in"
                " `siblings`."
            )
        lists = {
            "sizes": self.sizes,
            "from_base": self.from_base,
            "alternative": self.alternative.sizes if self.alternative else [],
            "teacher_sizes": self.teacher_sizes,
        }
        for name, chosen in lists.items():
            _check_sizes(name, chosen, self.sizes, self._siblings)
        self._check_declared()
        self._check_alternative()
        self._check_teacher_sizes()
        return self

    @property
    def _siblings(self) -> list[str]:
        return list(dict.fromkeys(name for smaller in self.siblings.values() for name in smaller))

    def _check_declared(self) -> None:
        """Raise StudyError where there are no several sizes or ways of asking to be together."""
        pairs = (len(self.sizes) + len(self._siblings)) * len(self.eval_prompts)
        if self.data.pooled_declared and pairs < 2:
            raise StudyError(
                "data.pooled_declared: there is a single pair of student and control: name more"
                " sizes, or leave it out."
            )

    def _check_alternative(self) -> None:
        """Raise StudyError for other losses of no size, or that take another number of steps, and
        for the same losses."""
        if self.alternative is None:
            return
        if not self.alternative.sizes:
            raise StudyError(
                "alternative.sizes is empty: name at least one, or leave `alternative` out."
            )
        others, main = map(method_stages.parse, (self.alternative.stages, self.training.stages))
        steps = method_stages.steps(others)
        if steps != self.training.steps:
            raise StudyError(
                f"alternative: its stages take {steps} steps in all, stages"
                f" {self.training.steps}: make them as long, so that they differ in losses alone."
            )
        if method_stages.title(others) == method_stages.title(main):
            raise StudyError("alternative: its losses are those of `training`: name other ones.")

    def _check_teacher_sizes(self) -> None:
        """Raise StudyError for a sweep without a teacher, or with one that is no larger than the
        student."""
        if not self.teacher_sizes:
            return
        check_distributions(self.training)
        student, *teachers = self.teacher_sizes
        if not teachers:
            raise StudyError(
                f"teacher_sizes names {student} alone: name the sizes of its teachers after it, or"
                " leave it empty."
            )
        check_teachers(teachers, student)

    def plan(self) -> Plan:
        """Every run of it."""
        plan = self.begin()
        ask_bases(self, plan, self.base_prompts)
        for family in families(self, plan, self.train_prompt):
            models = {}
            for arm in self._arms():
                for written in _sizes_of(arm, family):
                    model = models[arm.name, arm.init, written] = arm.add(family, written)
                    if arm.name == STUDENT:
                        family.inits[arm.init, str(written)] = model
            for written in self.teacher_sizes[1:]:
                model, called = family.under_control(
                    models[CONTROL, FINE_TUNED, written], written, self.teacher_sizes[0]
                )
                plan.cost(model, family.teacher, called)
        return plan

    def _arms(self) -> Iterator[Arm]:
        """Students and their controls, siblings first; then students by other losses.

        What a control lacks are the teacher's distributions and words, not its choice of
        questions."""
        training, siblings = self.training, self._siblings
        gold = training.targets if training.targets == plan_parts.FILTERED else "gold"
        inits: dict[str, Sequence[int | str]] = {
            PRETRAINED: siblings,
            FINE_TUNED: self.sizes,
            BASE: self.from_base,
        }
        for init, sizes in inits.items():
            yield Arm(STUDENT, init, sizes, training.stages, training.targets)
            yield Arm(CONTROL, init, sizes, training.gold, gold)
        if self.alternative is not None:
            stages = self.alternative.stages
            for init, main in ((PRETRAINED, siblings), (FINE_TUNED, self.sizes)):
                sizes = [size for size in self.alternative.sizes if size in main]
                yield Arm(OTHER_LOSSES, init, sizes, stages, training.targets)


def _sizes_of(arm: Arm, family: Family) -> list[int | str]:
    """The sizes of an arm that a family has: siblings are its own."""
    return [
        written
        for written in arm.sizes
        if not core_sizes.size(written).sibling or written in family.siblings
    ]


def _check_sizes(
    name: str, chosen: Sizes, sizes: Sequence[int | str], siblings: Sequence[str]
) -> None:
    """Raise StudyError for a size that is named twice or is not among `sizes` (or siblings).

    A size that is cut in stages is refused where it may not be, and before what it is cut from."""
    if len({core_sizes.size(size) for size in chosen}) < len(chosen):
        raise StudyError(f"{name} names a size twice.")
    for number, written in enumerate(chosen):
        if written not in sizes and not (name == "alternative" and written in siblings):
            raise StudyError(f"{name} names {written}, which `sizes` does not: add it there.")
        before = core_sizes.size(written).cut_from
        if before and name not in ("sizes", "from_base"):
            raise StudyError(f"{name}: {written} is cut in stages: leave it out.")
        if before and before not in map(str, chosen[:number]):
            raise StudyError(
                f"{name}: {written} is cut from the student of {before}: name that before it."
            )
