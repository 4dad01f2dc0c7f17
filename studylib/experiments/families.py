"""The fine-tuned teacher of one family and seed, and the models that are cut and trained beside
it, each planned once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from studylib.core import sizes as core_sizes
from studylib.core.errors import StudyError
from studylib.core.labels import (
    BASE,
    CONTROL,
    FINE_TUNED,
    GOLD_ONLY,
    PRETRAINED,
    SMALLER_TEACHER,
    STUDENT,
    TEACHER,
    control_of,
)
from studylib.experiments.config import Experiment
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages
from studylib.runs import kinds, plan_parts, supervision
from studylib.store.run import Input, Run

FIRST, LAST = "first sibling", "last sibling"  # of each family, whatever it is called


class Family:
    """The fine-tuned teacher of one family and seed, in the plan, and students of it."""

    def __init__(self, experiment: Experiment, plan: Plan, train_prompt: str, name: str, seed: int):
        self.plan, self.training = plan, experiment.training
        self.setting = experiment.setting(plan, train_prompt, seed)
        self.label = f"{name} s{seed}" + ("" if train_prompt == "zero-shot" else f" {train_prompt}")
        self.base = plan_parts.base_model(experiment.families[name])
        self.siblings = {
            sibling: plan_parts.base_model(reference)
            for sibling, reference in experiment.siblings.get(name, {}).items()
        }
        self.teacher = self._fine_tuned(self.setting, self.label)
        self.order = kinds.layers.plan(
            self.teacher, self.setting, contexts=self.training.pruning_contexts, label=self.label
        )
        self.named: dict[str, Any] = {
            "family": name,
            "teacher": FINE_TUNED,
            "student": "",
            "train_prompt": train_prompt,
            "seed": seed,
        }
        gold = method_stages.gold(self.training.teacher_steps)
        called = self.named | {"role": TEACHER, "init": BASE} | taught(gold)
        self.asked = plan.teacher(self.teacher, called, experiment.eval_prompts)
        self.inits: dict[tuple[str, str], Run | Input] = {
            (FINE_TUNED, ""): self.teacher,
            (BASE, ""): self.base,
        }
        self.cuts: dict[tuple[str, str], Run] = {}
        self.supervision = supervision.Supervision(
            self.teacher, self.setting, train_prompt, f"{self.label} teacher"
        )

    def supervised_by(self, name: str, model: Run | Input, mode: str) -> supervision.Supervision:
        """What students can learn from another model."""
        return supervision.Supervision(model, self.setting, mode, f"{self.label} {name}:")

    def several(self, count: int) -> list[supervision.Supervision]:
        """What students can learn from so many teachers: this one, and the same fine-tuned in other
        orders, those of the next seeds."""
        return [self.supervision] + [self._next(number) for number in range(1, count)]

    def _next(self, number: int) -> supervision.Supervision:
        """What can be learnt from the teacher of the seed after so many."""
        setting = replace(self.setting, seed=self.setting.seed + number)
        name = f"teacher of seed {setting.seed}"
        model = self._fine_tuned(setting, f"{self.label}, seed {setting.seed}")
        return self.supervised_by(name, model, self.setting.train_prompt)

    def _fine_tuned(self, setting: plan_parts.Setting, label: str) -> Run:
        training = self.training
        return kinds.teacher.plan(
            self.base,
            setting,
            steps=training.teacher_steps,
            lr=training.teacher_lr,
            rank=training.teacher_lora,
            label=label,
        )

    def size(self, written: int | str) -> int | str:
        """A size; for the first or the last sibling, what that is called in this family."""
        names = list(self.siblings)
        ends: dict[int | str, int | str] = {FIRST: names[0], LAST: names[-1]} if names else {}
        return ends.get(written, written)

    def init(self, cut_from: str, written: int | str) -> str:
        """The initialisation of a student of this size, in tables: what it is cut from, or its own
        pretraining."""
        return PRETRAINED if core_sizes.size(written).sibling else cut_from

    def begin(self, init: str, written: int | str) -> Run | Input:
        """The model of this size that students start as: a sibling as it is, or cut. It is cut from
        the fine-tuned teacher, the base model or, in stages, a student. Raises StudyError for a
        sibling that is not named."""
        size, key = core_sizes.size(self.size(written)), (init, str(written))
        if size.sibling:
            if size.sibling not in self.siblings:
                raise StudyError(
                    f"{self.named['family']} has no sibling {size.sibling!r}: name it in"
                    " `siblings`, with its model reference."
                )
            return self.siblings[size.sibling]
        if key not in self.cuts:
            self.cuts[key] = kinds.cut.plan(
                self.inits[init, size.cut_from],
                self.order,
                self.setting,
                size=size,
                trimmed=self._trimmed(size.tokens),
                contexts=self.training.calibration_contexts,
                criterion=self.training.pruning_criterion,
                label=f"{self.label} {size.title}, {init} init, cut",
            )
        return self.cuts[key]

    def _trimmed(self, tokens: int | None) -> Run | None:
        """The vocabulary of so many tokens, if it is trimmed."""
        if tokens is None:
            return None
        label = f"{self.label} vocabulary of {tokens} tokens"
        return kinds.vocabulary.plan(self.base, self.setting.train, tokens=tokens, label=label)

    def student(
        self,
        init: str,
        written: int | str,
        supervisions: Sequence[supervision.Supervision],
        *,
        stages: Sequence[Mapping],
        targets: str,
        title: str,
        lrs: Sequence[float] = (),
    ) -> Run:
        """A student of this size, trained through `stages`; `title` says by whom or how. Its
        learning rates are those of the training unless others are given."""
        size = core_sizes.size(self.size(written)).title
        return kinds.student.plan(
            self.begin(init, written),
            supervisions,
            self.setting,
            stages=stages,
            targets=targets,
            lrs=lrs or self.training.lrs,
            lr_search_steps=self.training.lr_search_steps,
            label=f"{self.label} {size}, {self.init(init, written)} init, {title}",
        )

    def add(
        self,
        teacher: str,
        init: str,
        written: int | str,
        supervisions: Sequence[supervision.Supervision],
        *,
        stages: Sequence[Mapping],
        targets: str = "gold",
        title: str,
        **named: Any,
    ) -> tuple[Run, dict[str, Any]]:
        """Put such a student, or a control, into the plan, asked what its teacher is asked; with
        what it is called in tables, `named` among it."""
        how: dict[str, Any] = {"stages": stages, "targets": targets}
        called = {
            **self.named,
            "role": CONTROL if teacher == GOLD_ONLY else STUDENT,
            "teacher": teacher,
            "init": self.init(init, written),
            "student": core_sizes.name(self.named["family"], self.size(written)),
            **taught(**how),
            **named,
        }
        model = self.student(init, written, supervisions, **how, title=title)
        self.plan.student(model, called, self.asked)
        return model, called

    def under_control(
        self, control: Run, written: int | str, student: int | str
    ) -> tuple[Run, dict[str, Any]]:
        """Put the student of a sweep over teachers into the plan, under the control of a larger
        size, `written`; with what it is called."""
        name = control_of(written)
        return self.add(
            name,
            FINE_TUNED,
            student,
            [self.supervised_by(f"{written} control", control, self.supervision.prompted)],
            stages=self.training.stages,
            title=f"teacher {name}",
            arm=SMALLER_TEACHER,
        )


def check_teachers(teachers: Sequence[int | str], student: int | str) -> None:
    """Raise StudyError for a teacher that is no larger than its student."""
    for written in teachers:
        larger, smaller = core_sizes.size(written), core_sizes.size(student)
        if not larger.holds(smaller) or larger == smaller:
            raise StudyError(f"teacher_sizes: {written} is no larger than its student, {student}.")


def ask_bases(experiment: Experiment, plan: Plan, modes: Sequence[str]) -> None:
    """Put every family and sibling as it comes from outside into the plan, asked in these ways with
    the first seed's demonstration."""
    blank = dict.fromkeys(("teacher", "targets", "objective", "train_prompt"), "")
    for family, reference in experiment.families.items():
        for size, model in {"": reference, **experiment.siblings.get(family, {})}.items():
            student = core_sizes.name(family, size) if size else ""
            called = {
                "family": family,
                "student": student,
                "role": BASE,
                "init": PRETRAINED,
                "seed": experiment.seeds[0],
                "steps": 0,
            } | blank
            plan.ask(plan_parts.base_model(model), called, modes, f"{student or family} as shipped")


def families(experiment: Experiment, plan: Plan, train_prompt: str) -> Iterator[Family]:
    """Every family with every seed, its teacher, trained with this prompt, in the plan."""
    for name, seed in product(experiment.families, experiment.seeds):
        yield Family(experiment, plan, train_prompt, name, seed)


def taught(stages: Sequence[Mapping], targets: str = "gold") -> dict:
    """What a model learns, in tables."""
    parsed = method_stages.parse(stages)
    return {
        "targets": targets,
        "objective": method_stages.title(parsed),
        "steps": method_stages.steps(parsed),
    }
