"""Every method on one student: one fine-tuned teacher, one initialisation, one order of contexts,
equal steps."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from studylib.core.checks import Count, check_lists
from studylib.core.errors import StudyError, unknown
from studylib.core.labels import CONTROL, FINE_TUNED, GOLD_ONLY, METHOD, STUDENT
from studylib.experiments.config import SinglePrompt, Size, Sizes
from studylib.experiments.families import Family, check_teachers, families
from studylib.experiments.plans import Plan
from studylib.methods import spaces
from studylib.methods import stages as method_stages

MOST_TEACHERS = 8
Teachers = Annotated[int, Field(ge=1, le=MOST_TEACHERS)]


class Methods(SinglePrompt):
    """What each of the `methods` adds to one student; none named means all that are known. One is
    named, or given with options, as `{hinton: {temperature: 8}}`.

    The student has this `size` and is cut from the fine-tuned teacher. It is compared with its
    control, also trained for each of `control_steps`, and with plain distillation, the `stages`.
    Methods of several teachers have `num_teachers`, fine-tuned alike but for the order of
    questions. By plain distillation it also learns from the control of each of `teacher_sizes`."""

    size: Size
    methods: list[str | dict[str, dict[str, Any]]] = []
    control_steps: list[Count] = []  # of further controls
    teacher_sizes: Sizes = []
    num_teachers: Teachers = 2

    @model_validator(mode="after")
    def _known(self) -> Self:
        methods = method_stages.known()
        for name, _ in self.compared:
            if name not in methods:
                raise StudyError(unknown("method", name, methods))
        if self.methods:
            check_lists(methods=[_called(*method) for method in self.compared])
        if self.teacher_sizes:
            check_lists(teacher_sizes=[str(size) for size in self.teacher_sizes])
        check_teachers(self.teacher_sizes, self.size)
        return self

    @property
    def compared(self) -> list[tuple[str, dict[str, Any]]]:
        """The methods with their options."""
        pairs: list[tuple[str, dict[str, Any]]] = []
        for method in self.methods or method_stages.known():
            if not isinstance(method, str) and len(method) != 1:
                raise StudyError(
                    f"methods: {method!r} is no method: write its name, or its name with options,"
                    " as {hinton: {temperature: 8}}."
                )
            pairs += [(method, {})] if isinstance(method, str) else method.items()
        return pairs

    def plan(self) -> Plan:
        """Every run of it."""
        plan, methods, steps = self.begin(), method_stages.known(), self.training.steps
        for family in families(self, plan, self.train_prompt):
            for count in sorted({steps, *self.control_steps}):
                gold = method_stages.gold(count)
                self._add(family, gold, CONTROL, _title(gold))
            plain = self.training.stages
            self._add(family, plain, STUDENT, _title(plain))
            for name, options in self.compared:
                recipe = spaces.with_options(methods[name].recipe(steps), name, options)
                self._add(family, recipe, METHOD, _called(name, options), self.teachers(name))
            for written in self.teacher_sizes:
                control, _ = family.add(
                    GOLD_ONLY,
                    FINE_TUNED,
                    written,
                    [],
                    stages=self.training.gold,
                    title=CONTROL,
                    arm=CONTROL,
                )
                family.under_control(control, written, self.size)
        return plan

    def teachers(self, name: str) -> int:
        """By how many teachers a method is taught."""
        method = method_stages.known().get(name)
        return self.num_teachers if method and method.signals.teachers < 0 else 1

    def _add(
        self, family: Family, stages: Sequence[Mapping], arm: str, objective: str, teachers: int = 1
    ) -> None:
        """Put a student of so many teachers, or a control, into the plan, asked in every way that
        its method answers by."""
        gold = arm == CONTROL
        model, called = family.add(
            GOLD_ONLY if gold else FINE_TUNED,
            FINE_TUNED,
            self.size,
            [] if gold else family.several(teachers),
            stages=stages,
            targets="gold" if gold else self.training.targets,
            title=objective,
            objective=objective,
            arm=arm,
        )
        for way in filter(None, method_stages.parse(stages)[-1].prototype.ways):
            family.plan.student_answers(
                model, called | {"objective": f"{objective}, {way}"}, family.asked, way
            )


def _called(name: str, options: Mapping[str, Any]) -> str:
    """What a method is called in tables: with its options, if they are given."""
    given = "; ".join(f"{option} {value}" for option, value in options.items())
    return f"{name} ({given})" if given else name


def _title(stages: Sequence[Mapping]) -> str:
    return method_stages.title(method_stages.parse(stages))
