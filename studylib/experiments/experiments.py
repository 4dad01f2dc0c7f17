"""The experiments: from the values of a notebook's parameters to a plan. Nothing is computed here.

plan = capacity_gap(families={"gpt_neox": "tiny:gpt_neox"}, ...)
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from studylib.core import naming, segmentation
from studylib.core import sizes as core_sizes
from studylib.core.errors import StudyError
from studylib.core.labels import BASE, FOLDED, NOBODY, RAW, TUNED, TWIN, TWO, rung
from studylib.core.machine import Machine
from studylib.data import prompts, sources
from studylib.experiments.plans import Plan
from studylib.methods import stages as method_stages
from studylib.models import loading, parts
from studylib.runs import kinds, planning, supervision
from studylib.store.run import Input, Run
from studylib.training.config import Recipe

MOST_SEEDS = 100
FIRST, LAST = "first sibling", "last sibling"  # of each family, whatever it is called


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
        _check_lists(
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

    def schools(self, plan: Plan) -> Iterator["School"]:
        """A school for each family and seed, its teacher in the plan."""
        for (family, reference), seed in product(self.families.items(), self.seeds):
            batching = (
                self.packs,
                self.micro,
                self.precision["training"],
                self.evaluations,
                self.precision["answers"],
            )
            setting = planning.Setting(plan.train, plan.dev, self.trained, seed, *batching)
            yield School(self, plan, family, setting, self.model(reference))

    def model(self, reference: str) -> Input:
        """A model from outside, `variant` put into its reference."""
        return planning.raw_model(loading.varied(reference, self.variant))


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


def taught(stages: Sequence[Mapping], learn: str = "gold") -> dict:
    """An objective in tables."""
    return {
        "objective": planning.objective_title(stages, learn),
        "steps": method_stages.steps(method_stages.parse(stages)),
    }


def capacity_gap(
    *,
    sizes: Sequence[int | str],
    twins: Sequence[int | str],
    raw_starts: Sequence[int | str],
    rivals: Sequence[int | str],
    rival_stages: Sequence[Mapping],
    ladder: Sequence[int | str],
    base_asked: Sequence[str],
    **given: Any,
) -> Plan:
    """How much of its teacher a student of each size keeps: per family and seed a tuned teacher,
    students taught by it (`sizes`, as `cutting.size` reads them), twins on gold answers (`twins`),
    and both from the raw model (`raw_starts`). Of several `rates` each student and each twin takes
    the one that its own search finds best.

    A family's `siblings` are students and twins besides. Rivals of some students (`rivals`) learn
    by other losses (`rival_stages`). Pupils are the first size of `ladder`, taught by the twins of
    the others instead of the whole teacher. Families and siblings are asked as they come, too, in
    every way of `base_asked`. Raises StudyError for values that cannot be.
    """
    common = Common(**given)
    _check_rivals(common, rivals, rival_stages)
    siblings = {name for smaller in common.siblings.values() for name in smaller}
    _check_sizes(
        siblings, sizes=sizes, twins=twins, raw_starts=raw_starts, rivals=rivals, ladder=ladder
    )
    if ladder:
        _check_ladder(ladder, twins)
        _check_distributions(common)
    for mode in base_asked:
        prompts.check(mode)
    plan, arms = (
        common.plan(),
        _arms(
            common,
            sizes=sizes,
            twins=twins,
            raw_starts=raw_starts,
            rivals=rivals,
            rival_stages=rival_stages,
        ),
    )
    _ask_bases(common, plan, base_asked)
    for school in common.schools(plan):
        made = {}
        for arm in arms:
            for written in arm.of(school):
                learnt = "rival" if arm.role == "rival" else arm.targets
                one = school.student(
                    arm.start,
                    written,
                    [school.lesson],
                    stages=arm.stages,
                    learn=arm.learn,
                    targets=learnt,
                )
                if arm.role == "student":
                    school.begins[arm.start, str(written)] = one
                made[arm.role, arm.start, written] = one
                _ask(plan, school, one, arm.called(written), written)
        for written in ladder[1:]:
            lesson = school.learning_from(
                f"{written} twin", made["twin", "tuned", written], common.trained
            )
            name = rung(written)
            one = school.student(
                "tuned",
                ladder[0],
                [lesson],
                stages=common.stages,
                learn="gold",
                targets=f"teacher {name}",
            )
            called = {
                "role": "pupil",
                "start": "tuned",
                "targets": "teacher",
                "teacher": name,
            } | taught(common.stages)
            _ask(plan, school, one, called, ladder[0])
    return plan


def _ask_bases(common: Common, plan: Plan, modes: Sequence[str]) -> None:
    """Put every family and sibling as it comes from outside into the plan, asked with the first
    seed's demonstration."""
    empty = dict.fromkeys(("teacher", "targets", "objective", "trained"), "")
    for family, reference in common.families.items():
        for size, each in {"": reference, **common.siblings.get(family, {})}.items():
            called = {
                "family": family,
                "student": core_sizes.name(family, size) if size else "",
                "role": BASE,
                "start": "pretrained",
            }
            plan.base(
                common.model(each), called | empty | {"seed": common.seeds[0], "steps": 0}, modes
            )


def _ask(plan: Plan, school: School, model: Run, called: dict, written: int | str) -> None:
    """Put a student of this size into the plan, what it costs included."""
    called = school.named | called | {"student": school.name(written)}
    plan.student(model, called, school.asked)
    plan.cost(model, school.tuned, called)


def teacher_choice(
    *, size: int | str, smaller: int | str, demonstration: str, **given: Any
) -> Plan:
    """Whom a student of this `size`, cut from the raw model, should learn from: same start, data,
    order and steps in every arm; of several `rates` each arm takes the one that its own search
    finds best.

    Teachers are the raw model, asked like the student or with a `demonstration`; the tuned one; a
    `smaller` one tuned on gold answers, or taught by the tuned one; the tuned one and that smaller
    one together; the student's own twin; and nobody. Raises StudyError for values that cannot be.
    """
    common = Common(**given)
    prompts.check(demonstration)
    _check_distributions(common)
    if demonstration == common.trained:
        raise StudyError(
            "demonstration must be another way of prompting than that of the student,"
            f" {common.trained}."
        )
    for name, written in (("size", size), ("smaller", smaller)):
        if core_sizes.size(written).cut_from:
            raise StudyError(
                f"{name}: {written} is cut in stages: name a size that is cut at once."
            )
    plan = common.plan()
    for school in common.schools(plan):
        about = school.named | {"start": school.start("raw", size), "student": school.name(size)}
        nobody = school.student("raw", size, [], stages=common.gold, learn="gold", targets="gold")
        plan.student(
            nobody,
            about | {"role": "twin", "targets": "gold", "teacher": NOBODY} | taught(common.gold),
            school.asked,
        )
        for name, lessons in _lessons(school, plan, nobody, smaller, demonstration).items():
            one = school.student(
                "raw", size, lessons, stages=common.stages, learn="gold", targets=f"teacher {name}"
            )
            called = {"role": "student", "targets": "teacher", "teacher": name} | taught(
                common.stages
            )
            plan.student(one, about | called, school.asked)
    return plan


def prompting_mode(*, size: int | str, trained: Sequence[str], **given: Any) -> Plan:
    """What a demonstration before the text is worth: teacher and student of this `size`, each
    trained in every way of `trained` and asked in every way of `asked`; and a student that is
    trained in the first way to say what the teacher of the last way says in that way, so that the
    demonstration is folded into its weights. Raises StudyError for values that cannot be.
    """
    _check_lists(trained=trained)
    ways = [Common(trained=mode, **given) for mode in trained]
    _check_distributions(ways[0])
    if len(trained) < 2 or not {trained[0], trained[-1]} <= set(ways[0].asked):
        raise StudyError(
            "trained must name two ways of prompting at least, and `asked` the first and the last"
            " of them."
        )
    plan = ways[0].plan()
    for schools in zip(*(way.schools(plan) for way in ways), strict=True):
        first, last = schools[0], schools[-1]
        taught_by = [(school, school.lesson, TUNED) for school in schools]
        for school, lesson, name in [*taught_by, (first, last.lesson, FOLDED)]:
            how = dict(stages=school.common.stages, learn=school.common.learn)
            one = school.student("tuned", size, [lesson], **how, targets=f"teacher {name}")
            called = {
                "role": "student",
                "student": school.name(size),
                "start": school.start("tuned", size),
                "targets": "teacher",
                "teacher": name,
            }
            plan.student(one, school.named | called | taught(**how), school.asked)
    return plan


def _lessons(
    school: School, plan: Plan, nobody: Run, smaller: int | str, demonstration: str
) -> dict[str, list[supervision.Lesson]]:
    """By whom the students of `teacher_choice` are taught. Teachers that no other arm shows are put
    into the plan, asked as they teach."""
    common, mode = school.common, school.common.trained
    tuned = school.student("tuned", smaller, [], stages=common.gold, learn="gold", targets="gold")
    again = school.student(
        "tuned", smaller, [school.lesson], stages=common.stages, learn="gold", targets="teacher"
    )
    others: dict[str, tuple[Run | Input, str, Run]] = {
        RAW: (school.raw, mode, school.tuned),
        f"{RAW} with a demonstration": (school.raw, demonstration, school.tuned),
        "smaller, tuned": (tuned, mode, tuned),
        "smaller, taught": (again, mode, again),
    }
    for name, (model, asked, counted) in others.items():
        plan.guide(
            model,
            school.named
            | {
                "role": "guide",
                "start": "",
                "targets": "",
                "teacher": name,
                "objective": "",
                "steps": 0,
            },
            asked,
            counted=counted,
        )
    lessons = {TUNED: school.lesson} | {
        name: school.learning_from(name, model, asked) for name, (model, asked, _) in others.items()
    }
    several = {
        TWO: [school.lesson, lessons["smaller, tuned"]],
        TWIN: [school.learning_from(TWIN, nobody, mode)],
    }
    return {name: [lesson] for name, lesson in lessons.items()} | several


@dataclass(frozen=True)
class Arm:
    """Models that start alike, `tuned`, `raw` or `pretrained`, and learn alike: students and rivals
    from the teacher, twins from gold answers alone. Siblings' `sizes` are those that a family has
    of them."""

    role: str
    start: str
    sizes: Sequence[int | str]
    stages: Sequence[Mapping]
    learn: str

    def of(self, school: School) -> list[int | str]:
        """Its sizes in one family."""
        return [
            written
            for written in self.sizes
            if not core_sizes.size(written).sibling or written in school.siblings
        ]

    @property
    def targets(self) -> str:
        """What they learn from, in tables."""
        return "gold" if self.role == "twin" else "teacher"

    def called(self, written: int | str) -> dict:
        """What one of them is called in tables; `steps` are those of all students that it was cut
        from, too."""
        about = {
            "role": self.role,
            "teacher": NOBODY if self.role == "twin" else TUNED,
            "start": self.start,
            "targets": self.targets,
        }
        learnt = taught(self.stages, self.learn)
        return about | learnt | {"steps": core_sizes.size(written).stages * learnt["steps"]}


def _arms(
    common: Common,
    *,
    sizes: Sequence,
    twins: Sequence,
    raw_starts: Sequence,
    rivals: Sequence,
    rival_stages: Sequence[Mapping],
) -> list[Arm]:
    """Students and their twins, from the tuned teacher and from the raw model; and rivals, from the
    tuned teacher.

    What a twin lacks are the teacher's distributions and words, not its choice of questions.
    """
    student: dict[str, Any] = {"stages": common.stages, "learn": common.learn}
    twin: dict[str, Any] = {
        "stages": common.gold,
        "learn": common.learn if common.learn == planning.RIGHT else "gold",
    }
    siblings = list(dict.fromkeys(name for smaller in common.siblings.values() for name in smaller))
    chosen = {
        "pretrained": (siblings, siblings),
        "tuned": (sizes, twins),
        "raw": (raw_starts, raw_starts),
    }
    pairs = (
        (Arm("student", start, own, **student), Arm("twin", start, beside, **twin))
        for start, (own, beside) in chosen.items()
    )
    apart = {
        start: [one for one in rivals if (one in siblings) == (start == "pretrained")]
        for start in ("pretrained", "tuned")
    }
    return [
        *(arm for pair in pairs for arm in pair),
        *(Arm("rival", start, own, rival_stages, common.learn) for start, own in apart.items()),
    ]


EXPERIMENTS: dict[str, Callable[..., Plan]] = {
    "capacity_gap": capacity_gap,
    "teacher_choice": teacher_choice,
    "prompting_mode": prompting_mode,
}


def _check_lists(**lists: Sequence) -> None:
    """Raise StudyError for a list that is empty or names something twice."""
    for name, chosen in lists.items():
        if not chosen:
            raise StudyError(f"{name} is empty: name at least one.")
        if repeated := [value for value in chosen if list(chosen).count(value) > 1]:
            raise StudyError(f"{name} names {repeated[0]!r} twice.")


def _check_sizes(siblings: Collection[str], **lists: Sequence[int | str]) -> None:
    """Raise StudyError for an impossible size, one that is named twice, and one that is not among
    `sizes` (or, of rivals, siblings) or stands before what it is cut from."""
    if not lists["sizes"] and not siblings:
        raise StudyError("sizes is empty: name at least one, or `siblings`.")
    if named := [size for size in lists["sizes"] if core_sizes.size(size).sibling]:
        raise StudyError(
            f"sizes names {named[0]!r}, which is no size of a cut student: name a sibling in"
            " `siblings`."
        )
    for name, chosen in lists.items():
        if len({core_sizes.size(size) for size in chosen}) < len(chosen):
            raise StudyError(f"{name} names a size twice.")
        for number, written in enumerate(chosen):
            if written not in lists["sizes"] and not (name == "rivals" and written in siblings):
                raise StudyError(f"{name} names {written}, which `sizes` does not: add it there.")
            before = core_sizes.size(written).cut_from
            if (
                before
                and before not in map(str, chosen[:number])
                and name in ("sizes", "raw_starts")
            ):
                raise StudyError(
                    f"{name}: {written} is cut from the student of {before}: name that before it."
                )


def _check_rivals(
    common: Common, rivals: Sequence[int | str], rival_stages: Sequence[Mapping]
) -> None:
    """Raise StudyError for rivals that differ from students in more than their losses."""
    steps, own = (
        method_stages.steps(method_stages.parse(stages)) for stages in (common.stages, rival_stages)
    )
    if rivals and steps != own:
        raise StudyError(
            f"rival_stages are {own} steps in all, stages {steps}: rivals learn as long as"
            " students, so give both as many."
        )
    if staged := [written for written in rivals if core_sizes.size(written).cut_from]:
        raise StudyError(f"rivals: {staged[0]} is cut in stages: name a size that is cut at once.")


def _check_ladder(ladder: Sequence[int | str], twins: Sequence[int | str]) -> None:
    """Raise StudyError for a ladder whose teachers are no twins or hold less than their pupil."""
    for written in ladder:
        if core_sizes.size(written).cut_from:
            raise StudyError(
                f"ladder: {written} is cut in stages: name a size that is cut at once."
            )
    for written in ladder[1:]:
        if written not in twins:
            raise StudyError(f"ladder: {written} teaches by its twin: name it among `twins`, too.")
        if not core_sizes.size(written).holds(core_sizes.size(ladder[0])):
            raise StudyError(
                f"ladder: {written} is no larger than its pupil, {ladder[0]}: name the pupil first,"
                " then larger teachers."
            )


def _check_distributions(common: Common) -> None:
    """Raise StudyError for students that learn anything but distributions at answers: a teacher
    that is prompted otherwise has no more."""
    stages = method_stages.parse(common.stages)
    if common.learn != "gold" or any(
        stage.online or stage.prototype.signals.at == "all" for stage in stages
    ):
        raise StudyError(
            "Teachers are compared by their distributions at answers: set `learn: gold`, and leave"
            " losses on hidden states and `tokens: all` out of `stages`."
        )
