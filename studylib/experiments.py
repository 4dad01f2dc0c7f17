"""The experiments: from the values of a notebook's parameters to a plan. Nothing is computed here.

plan = capacity_gap(families={"gpt_neox": "tiny:gpt_neox"}, ...)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from studylib import cutting, kinds, objectives, prompts, scoring, sources, training
from studylib.errors import StudyError
from studylib.plans import Plan
from studylib.runs import Input, Run


def capacity_gap(
    *,
    families: Mapping[str, str],
    train: Mapping,
    dev: Mapping,
    tests: Mapping[str, Mapping],
    xquad: str,
    xquad_paragraphs: int,
    trained: str,
    asked: Sequence[str],
    seeds: Sequence[int],
    sizes: Sequence[int | str],
    twins: Sequence[int | str],
    raw_starts: Sequence[int | str],
    stages: Sequence[Mapping],
    learn: str,
    layer_packs: int,
    heal_packs: int,
    teacher_steps: int,
    teacher_rate: float,
    rates: Sequence[float],
    search_steps: int,
    packs: int,
    micro: int,
    precision: str,
    evaluations: int,
    threads: int,
) -> Plan:
    """How much of its teacher a student of each size keeps: per family and seed a tuned teacher, students
    taught by it (`sizes`, as `cutting.size` reads them), twins on gold answers (`twins`), and both from the raw model (`raw_starts`).
    Raises StudyError for values that cannot be.
    """
    tests = {**tests, **sources.xquad(xquad, xquad_paragraphs)}
    _check_lists(
        families=list(families), tests=list(tests), asked=asked, seeds=seeds, sizes=sizes, twins=twins, raw_starts=raw_starts, rates=rates
    )
    counts = {"threads": threads, "layer_packs": layer_packs, "heal_packs": heal_packs, "evaluations": evaluations}
    counts |= {"teacher_steps": teacher_steps, "search_steps": search_steps}
    _check_choices(families, [trained, *asked], learn, counts)
    teacher_rate, rates = float(teacher_rate), [float(rate) for rate in rates]  # papermill injects 1e-3 as text
    for rate, seed in product((teacher_rate, *rates), seeds):
        training.Recipe(packs, rate, seed, micro, precision)
    pool, dev_set = kinds.dataset("train", train), kinds.dataset("dev", dev)
    plan = Plan(threads, pool, dev_set, [kinds.dataset(name, test) for name, test in tests.items()])
    for described in (dev, *tests.values()):
        for language in sources.languages(described):
            scoring.usual_rules(language)
    arms = _arms(stages, learn, sizes=sizes, twins=twins, raw_starts=raw_starts)
    for (family, reference), seed in product(families.items(), seeds):
        label, raw = f"{family} s{seed}", kinds.raw_model(reference)
        setting = kinds.Setting(pool, dev_set, trained, seed, packs, micro, precision, evaluations)
        tuned = kinds.teacher(raw, setting, steps=teacher_steps, rate=teacher_rate, label=label)
        lesson = kinds.Lesson(tuned, kinds.layers(tuned, setting, packs=layer_packs, label=label), setting, label)
        named = {"family": family, "teacher": family, "student": "", "trained": trained, "seed": seed}
        own = {"role": "teacher", "start": "raw", "targets": "gold"} | _taught(objectives.gold(teacher_steps))
        theirs = plan.teacher(tuned, named | own, asked)
        for arm, written, one in _students(arms, raw, lesson, setting, heal_packs=heal_packs, rates=rates, search_steps=search_steps):
            plan.student(one, named | arm.called(written) | {"student": f"{family}-{written}"}, theirs)
    return plan


@dataclass(frozen=True)
class Arm:
    """Models that start alike, `tuned` or `raw`, and learn alike, from the `teacher` or from `gold` alone, in these sizes."""

    start: str
    targets: str
    sizes: Sequence[int | str]
    stages: Sequence[Mapping]
    learn: str

    def called(self, written: int | str) -> dict:
        """What one of them is called in tables; `steps` are those of all students that it was cut from, too."""
        about = {"role": "student" if self.targets == "teacher" else "twin", "start": self.start, "targets": self.targets}
        taught = _taught(self.stages, self.learn)
        return about | taught | {"steps": cutting.size(written).stages * taught["steps"]}


def _taught(stages: Sequence[Mapping], learn: str = "gold") -> dict:
    """An objective in tables."""
    return {"objective": kinds.objective_title(stages, learn), "steps": objectives.steps(objectives.parse(stages))}


def _arms(stages: Sequence[Mapping], learn: str, *, sizes: Sequence, twins: Sequence, raw_starts: Sequence) -> list[Arm]:
    """Students and their twins, from the tuned teacher and from the raw model.

    What a twin lacks are the teacher's distributions and words, not its choice of questions.
    """
    taught = {"stages": stages, "learn": learn}
    twin = {"stages": objectives.gold(objectives.steps(objectives.parse(stages))), "learn": learn if learn == kinds.RIGHT else "gold"}
    chosen = {"tuned": (sizes, twins), "raw": (raw_starts, raw_starts)}
    pairs = ((Arm(start, "teacher", own, **taught), Arm(start, "gold", beside, **twin)) for start, (own, beside) in chosen.items())
    return [arm for pair in pairs for arm in pair]


def _students(
    arms: Sequence[Arm], raw: Input, lesson: kinds.Lesson, setting: kinds.Setting, *, heal_packs: int, **search: object
) -> Iterator[tuple[Arm, int | str, Run]]:
    """The runs of all arms, with their arm and size. A student and its twin are trained from one and the same cut."""
    cuts: dict[tuple, Run] = {}
    begins: dict[tuple, Run | Input] = {("tuned", ""): lesson.teacher, ("raw", ""): raw}
    for arm in arms:
        for written in arm.sizes:
            size = cutting.size(written)
            label = f"{lesson.label} {size.title}, {arm.start} start"
            if (arm.start, written) not in cuts:
                begin = begins[arm.start, size.cut_from]
                cuts[arm.start, written] = kinds.cut(begin, lesson, setting, size=size, packs=heal_packs, label=f"{label}, cut")
            taught = dict(stages=arm.stages, learn=arm.learn, label=f"{label}, {arm.targets}")
            one = kinds.student(cuts[arm.start, written], lesson, setting, **taught, **search)
            if arm.targets == "teacher":
                begins[arm.start, str(written)] = one
            yield arm, written, one


EXPERIMENTS = {"capacity_gap": capacity_gap}


def _check_lists(**lists: Sequence) -> None:
    """Raise StudyError for a list that is empty where it must not be, names something twice, or an impossible size."""
    for name, chosen in lists.items():
        if not chosen and name not in ("twins", "raw_starts"):
            raise StudyError(f"{name} is empty: name at least one.")
        if repeated := [value for value in chosen if list(chosen).count(value) > 1]:
            raise StudyError(f"{name} names {repeated[0]!r} twice.")
    for name in ("sizes", "twins", "raw_starts"):
        if len({cutting.size(size) for size in lists[name]}) < len(lists[name]):
            raise StudyError(f"{name} names a size twice.")
        for number, written in enumerate(lists[name]):
            if written not in lists["sizes"]:
                raise StudyError(f"{name} names {written}, which `sizes` does not: add it there.")
            before = cutting.size(written).cut_from
            if before and before not in map(str, lists[name][:number]) and name != "twins":
                raise StudyError(f"{name}: {written} is cut from the student of {before}: name that before it.")
    for name in lists["tests"]:
        if not isinstance(name, str) or name in ("train", "dev"):
            raise StudyError(f"tests names a set {name!r}: call it by another word than train and dev.")


def _check_choices(families: Mapping, modes: Sequence[str], learn: str, counts: Mapping[str, int]) -> None:
    """Raise StudyError for a model that is no reference, an unknown prompting or text to learn, or a count that cannot be."""
    for family, reference in families.items():
        if not isinstance(family, str) or not isinstance(reference, str):
            raise StudyError(f"families must map names to model references, not {family!r} to {reference!r}.")
    for mode in modes:
        prompts.check(mode)
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise StudyError(f"{name} must be a whole number of at least 1, not {count!r}.")
    if learn not in kinds.LEARN:
        raise StudyError(f"learn must be {', '.join(kinds.LEARN[:-1])} or {kinds.LEARN[-1]}, not {learn!r}.")
