"""Capacity gap: how much of its teacher a student of each size keeps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studylib.core import sizes as core_sizes
from studylib.core.errors import StudyError
from studylib.core.labels import BASE, NOBODY, TUNED, rung
from studylib.data import prompts
from studylib.experiments.config import Common
from studylib.experiments.families import School, schools, taught
from studylib.experiments.plans import Plan
from studylib.experiments.teacher_choice import check_distributions
from studylib.methods import stages as method_stages
from studylib.runs import planning
from studylib.store.run import Run


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
        check_distributions(common)
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
    for school in schools(common, plan):
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
