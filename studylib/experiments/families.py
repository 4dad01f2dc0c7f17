"""The fine-tuned teacher of one family and seed, and the models cut and trained beside it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from studylib.core import sizes as core_sizes
from studylib.core.errors import StudyError
from studylib.core.labels import TUNED
from studylib.experiments.config import Common
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages
from studylib.runs import kinds, planning, supervision
from studylib.store.run import Input, Run

FIRST, LAST = "first sibling", "last sibling"  # of each family, whatever it is called


class School:
    """The tuned teacher of one family and seed, and the models that are cut and taught beside it,
    each planned once."""

    def __init__(
        self, common: Common, plan: Plan, family: str, setting: planning.Setting, raw: Input
    ):
        self.common, self.setting, self.raw, self.label = (
            common,
            setting,
            raw,
            f"{family} s{setting.seed}"
            + ("" if setting.trained == "zero-shot" else f" {setting.trained}"),
        )
        how: dict[str, Any] = dict(
            steps=common.teacher_steps, rate=float(common.teacher_rate), rank=common.teacher_lora
        )
        self.tuned = kinds.teacher.plan(raw, setting, **how, label=self.label)
        self.order = kinds.layers.plan(
            self.tuned, setting, packs=common.layer_packs, label=self.label
        )
        self.named: dict[str, Any] = {
            "family": family,
            "teacher": TUNED,
            "student": "",
            "trained": common.trained,
            "seed": setting.seed,
        }
        own = {"role": "teacher", "start": "raw", "targets": "gold"} | taught(
            method_stages.gold(common.teacher_steps)
        )
        self.asked = plan.teacher(self.tuned, self.named | own, common.asked)
        self.begins: dict[tuple[str, str], Run | Input] = {
            ("tuned", ""): self.tuned,
            ("raw", ""): raw,
        }
        self.cuts: dict[tuple[str, str], Run] = {}
        self.siblings = {
            name: common.model(reference)
            for name, reference in common.siblings.get(family, {}).items()
        }
        self.lesson = supervision.Lesson(
            self.tuned, setting, common.trained, f"{self.label} teacher"
        )  # by its tuned teacher

    def learning_from(self, name: str, model: Run | Input, mode: str) -> supervision.Lesson:
        """What students can learn from another model."""
        return supervision.Lesson(model, self.setting, mode, f"{self.label} {name}:")

    def name(self, written: int | str) -> str:
        """What a student of this size is called."""
        return core_sizes.name(self.named["family"], self._own(written))

    def _own(self, written: int | str) -> int | str:
        """A size; for the first or the last sibling, what that is called in this family."""
        names = list(self.siblings)
        ends: dict[int | str, int | str] = {FIRST: names[0], LAST: names[-1]} if names else {}
        return ends.get(written, written)

    def start(self, cut_from: str, written: int | str) -> str:
        """What a student of this size starts from, in tables: what it is cut from, or its own
        pretraining."""
        return "pretrained" if core_sizes.size(written).sibling else cut_from

    def begin(self, start: str, written: int | str) -> Run | Input:
        """The model of this size that students start from: cut from the `tuned` teacher, the `raw`
        model or, in stages, a student; or a sibling as it is. Raises StudyError for a sibling that
        is not named."""
        size, key = core_sizes.size(self._own(written)), (start, str(written))
        if size.sibling:
            if size.sibling not in self.siblings:
                raise StudyError(
                    f"{self.named['family']} has no sibling {size.sibling!r}: name it in"
                    " `siblings`, with its model reference."
                )
            return self.siblings[size.sibling]
        if key not in self.cuts:
            label = f"{self.label} {size.title}, {start} start, cut"
            begin = self.begins[start, size.cut_from]
            self.cuts[key] = kinds.cut.plan(
                begin,
                self.order,
                self.setting,
                size=size,
                packs=self.common.heal_packs,
                label=label,
            )
        return self.cuts[key]

    def student(
        self,
        start: str,
        written: int | str,
        lessons: Sequence[supervision.Lesson],
        *,
        stages: Sequence[Mapping],
        learn: str,
        targets: str,
    ) -> Run:
        """A student of this size and start, trained through `stages`; `targets` is what it is
        called by."""
        search: dict[str, Any] = dict(
            rates=[float(rate) for rate in self.common.rates], search_steps=self.common.search_steps
        )
        label = (
            f"{self.label} {core_sizes.size(self._own(written)).title},"
            f" {self.start(start, written)} start, {targets}"
        )
        return kinds.student.plan(
            self.begin(start, written),
            lessons,
            self.setting,
            stages=stages,
            learn=learn,
            label=label,
            **search,
        )


def schools(common: Common, plan: Plan) -> Iterator[School]:
    """A school for each family and seed, its teacher in the plan."""
    for (family, reference), seed in product(common.families.items(), common.seeds):
        batching = (
            common.packs,
            common.micro,
            common.precision["training"],
            common.evaluations,
            common.precision["answers"],
        )
        setting = planning.Setting(plan.train, plan.dev, common.trained, seed, *batching)
        yield School(common, plan, family, setting, common.model(reference))


def taught(stages: Sequence[Mapping], learn: str = "gold") -> dict:
    """An objective in tables."""
    return {
        "objective": planning.objective_title(stages, learn),
        "steps": method_stages.steps(method_stages.parse(stages)),
    }
