"""What every experiment is told, checked: models, data, ways of asking, what students learn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from studylib.core import naming, segmentation
from studylib.core import sizes as core_sizes
from studylib.core.errors import StudyError
from studylib.core.machine import Machine
from studylib.data import prompts, sources
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages
from studylib.models import loading, parts
from studylib.runs import planning
from studylib.store.run import Input
from studylib.training.config import Recipe

MOST_SEEDS = 100


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every experiment is told: models, data, ways of asking, what students learn, how long
    and how precisely.

    Raises StudyError for values that cannot be.
    """

    families: Mapping[str, str]
    siblings: Mapping[str, Mapping[str, str]]
    variant: str
    train: Mapping
    dev: Mapping
    tests: Mapping[str, Mapping]
    xquad: str
    xquad_paragraphs: int
    trained: str
    asked: Sequence[str]
    seeds: Sequence[int]
    stages: Sequence[Mapping]
    learn: str
    layer_packs: int
    heal_packs: int
    teacher_steps: int
    teacher_rate: float
    teacher_lora: int
    rates: Sequence[float]
    search_steps: int
    packs: int
    micro: int
    precision: Mapping[str, str]
    evaluations: int
    engine: str
    engine_options: Mapping
    device: str
    threads: int
    processes: int

    def __post_init__(self) -> None:
        check_lists(
            families=list(self.families),
            tests=list(self.tests),
            asked=self.asked,
            seeds=self.seeds,
            rates=self.rates,
        )
        for family, reference in self.families.items():
            if not isinstance(family, str) or not isinstance(reference, str):
                raise StudyError(
                    f"families must map names to model references, not {family!r} to {reference!r}."
                )
        if len(self.seeds) > MOST_SEEDS:
            raise StudyError(f"seeds names {len(self.seeds)}: name at most {MOST_SEEDS}.")
        self._check_siblings()
        for name in self.tests:
            if not isinstance(name, str) or name in ("train", "dev"):
                raise StudyError(
                    f"tests names a set {name!r}: call it by another word than train and dev."
                )
        for what, named in (("families", self.families), ("tests", self.tests)):
            for name in named:
                naming.check(name, what)
        for mode in (self.trained, *self.asked):
            prompts.check(mode)
        for name in (
            "threads",
            "processes",
            "layer_packs",
            "heal_packs",
            "evaluations",
            "teacher_steps",
            "search_steps",
        ):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count < 2**31:
                raise StudyError(
                    f"{name} must be a whole number of at least 1 and below 2**31, not {count!r}."
                )
        if (
            isinstance(self.teacher_lora, bool)
            or not isinstance(self.teacher_lora, int)
            or not 0 <= self.teacher_lora <= 1024
        ):
            raise StudyError(
                "teacher_lora must be a rank of 1 to 1024, or 0 to tune all weights, not"
                f" {self.teacher_lora!r}."
            )
        if self.teacher_lora and self.processes > 1:
            raise StudyError(
                "teacher_lora: several processes do not share adapters: set `processes: 1`, or"
                " `teacher_lora: 0`."
            )
        if self.learn not in planning.LEARN:
            raise StudyError(
                f"learn must be {', '.join(planning.LEARN[:-1])} or {planning.LEARN[-1]}, not"
                f" {self.learn!r}."
            )
        method_stages.parse(self.stages)
        try:
            rates = [float(rate) for rate in (self.teacher_rate, *self.rates)]
        except (TypeError, ValueError) as error:
            raise StudyError(
                f"teacher_rate and rates must be numbers, not {self.teacher_rate!r} and"
                f" {self.rates!r}."
            ) from error
        self._check_precision()
        for rate, seed in product(rates, self.seeds):
            Recipe(self.packs, rate, seed, self.micro, self.precision["training"])

    def _check_precision(self) -> None:
        """Raise StudyError for precisions that cannot be."""
        if not isinstance(self.precision, Mapping) or set(self.precision) != {
            "training",
            "answers",
        }:
            raise StudyError(
                "precision must name that of `training` and that of `answers`, not"
                f" {self.precision!r}."
            )
        for what, name in self.precision.items():
            if name not in parts.PRECISIONS:
                raise StudyError(
                    f"precision of {what} must be {' or '.join(parts.PRECISIONS)}, not {name!r}."
                )

    def _check_siblings(self) -> None:
        """Raise StudyError for siblings of a family that is not there, and for names and references
        that cannot be."""
        for family, smaller in self.siblings.items():
            if family not in self.families:
                raise StudyError(
                    f"siblings names the family {family!r}, which `families` does not: add it"
                    " there."
                )
            if not isinstance(smaller, Mapping) or not all(
                isinstance(one, str) for pair in smaller.items() for one in pair
            ):
                raise StudyError(
                    f"siblings of {family} must map names to model references, not {smaller!r}."
                )
            if wrong := [name for name in smaller if not core_sizes.size(name).sibling]:
                raise StudyError(
                    f"siblings: {wrong[0]!r} is a size of cut students: let a sibling's name begin"
                    " with a letter."
                )

    @property
    def gold(self) -> list[dict]:
        """As many steps on gold answers alone as a student has on its losses."""
        return method_stages.gold(method_stages.steps(method_stages.parse(self.stages)))

    def plan(self) -> Plan:
        """A plan with the data sets, and nothing to compute yet."""
        tests = {**self.tests, **sources.xquad(self.xquad, self.xquad_paragraphs)}
        for described in (self.dev, *tests.values()):
            for language in sources.languages(described):
                segmentation.usual_rules(language)
        if self.learn == planning.WITHHELD and "labelled_paragraphs" not in self.train:
            raise StudyError(
                f"learn: {self.learn!r} needs answers that are withheld: give `train` its"
                " `labelled_paragraphs`."
            )
        sets = [planning.dataset(name, test) for name, test in tests.items()]
        machine = Machine(
            **{
                name: getattr(self, name)
                for name in ("engine", "engine_options", "device", "threads", "processes")
            }
        )
        return Plan(
            machine,
            planning.dataset("train", self.train),
            planning.dataset("dev", self.dev),
            sets,
            self.precision["answers"],
        )

    def model(self, reference: str) -> Input:
        """A model from outside, `variant` put into its reference."""
        return planning.raw_model(loading.varied(reference, self.variant))


def check_lists(**lists: Sequence) -> None:
    """Raise StudyError for a list that is empty or names something twice."""
    for name, chosen in lists.items():
        if not chosen:
            raise StudyError(f"{name} is empty: name at least one.")
        if repeated := [value for value in chosen if list(chosen).count(value) > 1]:
            raise StudyError(f"{name} names {repeated[0]!r} twice.")
