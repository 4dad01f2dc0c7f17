"""What every experiment is told, checked: models, prompts, data, training, machine.

>>> checked(CapacityGap, {"sizes": [4, 2]}).training.batch_size
16
"""

from itertools import product, starmap
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from studylib.core import naming, segmentation, sizes
from studylib.core.checks import Count, Number, Rate, check_lists
from studylib.core.errors import StudyError
from studylib.core.machine import Machine
from studylib.data import demonstrations, sources
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages
from studylib.models.precision import Precision
from studylib.models.prune import Criterion
from studylib.runs import plan_parts
from studylib.training.config import Recipe

MOST_SEEDS = 100
FACTS = {"source": "facts:test", "paragraphs": 8, "facts": 3}


def _prompt(mode: str) -> str:
    demonstrations.check(mode)
    return mode


def _size(written: int | str) -> int | str:
    sizes.size(written)
    return written


Prompt = Annotated[str, AfterValidator(_prompt)]
Size = Annotated[int | str, BeforeValidator(_size)]
Sizes = list[Size]
Stages = list[dict[str, Any]]


class Part(BaseModel):
    """Values that are refused where their names are unknown or their types are wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(Part):
    """The data sets, as `data.sources` describes them; by default those of the smoke profile. And
    whether it was declared before any row of the test sets was there that students minus controls
    of all sizes together are the primary contrast (`analysis.contrasts.pooled`)."""

    train: dict[str, Any] = FACTS | {"source": "facts:train", "paragraphs": 32}
    dev: dict[str, Any] = FACTS | {"source": "facts:dev", "paragraphs": 4}
    tests: dict[str, dict[str, Any]] = {"in-domain": FACTS}
    pooled_declared: bool = False

    @model_validator(mode="after")
    def _sets(self) -> "Data":
        check_lists(tests=list(self.tests))
        for name in self.tests:
            naming.check(name, "tests")
            if name in ("train", "dev"):
                raise StudyError(
                    f"tests names a set {name!r}: call it by another word than train and dev."
                )
        for name, described in {"dev": self.dev, **self.tests}.items():
            if "unlabelled" in described:
                raise StudyError(
                    f"{name} has `unlabelled`, which is for `train` alone: move it there."
                )
            for language in sources.languages(described):
                segmentation.usual_rules(language)
        return self


class Precisions(Part):
    """Those of matrix products: bf16 is faster where the processor has it."""

    training: Precision = "fp32"
    answers: Precision = "fp32"


class Training(Part):
    """What students learn, how long and how precisely; by default as in the smoke profile."""

    stages: Stages = [{"steps": 6, "losses": {"forward_kl": 1.0, "cross_entropy": 0.5}}]
    targets: plan_parts.Targets = "gold"  # the text that students learn
    pruning_contexts: Count = 8  # on which the layers that can go are found
    # by which neurons go: least harm to the reconstruction, or least gradients of the answer loss
    pruning_criterion: Criterion = "reconstruction"
    calibration_contexts: Count = 16  # on which a pruned model is reconstructed in closed form
    teacher_steps: Count = 12
    teacher_lr: Rate = 1e-3
    teacher_lora: Annotated[int, Field(ge=0, le=1024)] = 0  # rank of adapters; 0: all weights
    lrs: list[Rate] = [1e-3]  # of several, each student takes the best one of its own search
    lr_search_steps: Count = 3  # how long each is tried in that search
    batch_size: Count = 8  # contexts a step
    micro_batch_size: Number = 0  # contexts; 0: all of a step at once
    precision: Precisions = Precisions()
    num_evals: Count = 2  # so often dev F1 is measured in a training, and once before it

    @model_validator(mode="after")
    def _values(self) -> "Training":
        check_lists(lrs=self.lrs)
        method_stages.parse(self.stages)
        return self

    @property
    def steps(self) -> int:
        """Of all stages."""
        return method_stages.steps(method_stages.parse(self.stages))

    @property
    def gold(self) -> list[dict]:
        """As many steps on gold answers alone as a student has on its losses."""
        return method_stages.gold(self.steps)


class Experiment(Part):
    """What all experiments are told. A subclass adds what it varies, and plans it."""

    families: dict[str, str]  # family -> base model
    siblings: dict[str, dict[str, str]] = {}  # family -> {name: model}: smaller pretrained models
    eval_prompts: list[Prompt] = ["zero-shot"]
    seeds: Annotated[list[Number], Field(max_length=MOST_SEEDS)] = [0]
    data: Data = Data()
    training: Training = Training()
    machine: Machine = Machine()

    @model_validator(mode="after")
    def _values(self) -> "Experiment":
        check_lists(families=list(self.families), eval_prompts=self.eval_prompts, seeds=self.seeds)
        for name in self.families:
            naming.check(name, "families")
        self._check_siblings()
        training = self.training
        if training.teacher_lora and self.machine.processes > 1:
            raise StudyError(
                "teacher_lora: several processes do not share adapters: set `processes: 1`, or"
                " `teacher_lora: 0`."
            )
        self.check_targets(training.targets)
        for lr, seed in product((training.teacher_lr, *training.lrs), self.seeds):
            Recipe(
                training.batch_size,
                lr,
                seed,
                training.micro_batch_size,
                training.precision.training,
            )
        return self

    def check_targets(self, targets: str) -> None:
        """Raise StudyError where the text to learn is that of withheld answers, and none are; and
        where nothing is learnt of data sets that are unlabelled."""
        if "unlabelled" in self.data.train and targets not in plan_parts.ANSWERED:
            raise StudyError(
                f"targets: {targets!r} leaves the data sets out that are `unlabelled`: take"
                f" {plan_parts.WITHHELD!r}, or leave them out of `train`."
            )
        withheld = {"labelled_paragraphs", "unlabelled"} & set(self.data.train)
        if targets == plan_parts.WITHHELD and not withheld:
            raise StudyError(
                f"targets: {targets!r} needs answers that are withheld: give `train` its"
                " `labelled_paragraphs`, or data sets that are `unlabelled`."
            )

    def _check_siblings(self) -> None:
        """Raise StudyError for siblings of a family that is not there, and for a name that is a
        size of cut students."""
        for family, smaller in self.siblings.items():
            if family not in self.families:
                raise StudyError(
                    f"siblings names the family {family!r}, which `families` does not: add it"
                    " there."
                )
            if wrong := [name for name in smaller if not sizes.size(name).sibling]:
                raise StudyError(
                    f"siblings: {wrong[0]!r} is a size of cut students: let a sibling's name begin"
                    " with a letter."
                )

    def plan(self) -> Plan:
        """Every run that the experiment needs; computes nothing."""
        raise NotImplementedError

    def begin(self) -> Plan:
        """A plan with the data sets, and nothing to compute yet."""
        described = {"train": self.data.train, "dev": self.data.dev, **self.data.tests}
        train, dev, *tests = starmap(plan_parts.dataset, described.items())
        return Plan(
            self.machine,
            train,
            dev,
            tests,
            self.training.precision.answers,
            pooled_declared=self.data.pooled_declared,
        )

    def setting(self, plan: Plan, train_prompt: str, seed: int) -> plan_parts.Setting:
        """What all runs of one way of prompting and seed share."""
        training = self.training
        return plan_parts.Setting(
            plan.train,
            plan.dev,
            train_prompt,
            seed,
            training.batch_size,
            training.micro_batch_size,
            training.precision.training,
            training.num_evals,
            training.precision.answers,
        )


class SinglePrompt(Experiment):
    """An experiment all of whose models are trained with one prompt."""

    train_prompt: Prompt = "zero-shot"


def check_distributions(training: Training) -> None:
    """Raise StudyError for students that learn anything but distributions at answers: a teacher
    that is prompted otherwise has no more; and for a method that prompts teachers itself."""
    signals = [stage.prototype.signals for stage in method_stages.parse(training.stages)]
    if training.targets != "gold" or any(
        read.online or read.at == "all" or read.demonstration for read in signals
    ):
        raise StudyError(
            "Teachers are compared by their distributions at answers: set `targets: gold`, and"
            " leave losses on hidden states, `tokens: all`, and methods by which a teacher runs"
            " beside the student or reads a demonstration, out of `stages`."
        )
