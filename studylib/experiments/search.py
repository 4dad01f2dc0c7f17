"""A search among the options of a method: what can be chosen, the runs of a trial, and its score.

search = Search(experiment, "hinton")
trial = search.trial({"temperature": 3.0, "hard": 0.5})

A trial is the method's ordinary student of the experiment `methods`, with other options. Every
trial has the same steps and batches. It is scored on dev questions; test sets are not even planned.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean
from typing import Any

from studylib.core.checks import Rate
from studylib.core.errors import StudyError, unknown
from studylib.core.filesystem import canonical
from studylib.core.labels import FINE_TUNED
from studylib.experiments.families import Family, families
from studylib.experiments.methods import Methods
from studylib.experiments.plans import Plan
from studylib.methods import objective, spaces
from studylib.methods import stages as method_stages
from studylib.methods.spaces import Categorical, Option, Range
from studylib.runs import plan_parts
from studylib.store.run import Run
from studylib.store.store import Store

OBJECTIVE = "objective"  # in place of a method: the weighted losses of the profile's `stages`
LR, TARGETS, LOSSES = "lr", "targets", "losses"  # what can be searched beside options
TRIAL_KINDS = ("student", "lr_search", "examples")  # kinds of run that a trial has for itself
FRESH = 2  # seeds that no trial of the search has seen


@dataclass(frozen=True)
class Trial:
    """What was chosen, and the runs that try it with some seeds; or why it cannot be planned."""

    chosen: Mapping[str, Any]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...] = ()
    refused: str = ""

    @property
    def planned(self) -> tuple[str, ...]:
        """Names what is tried; the same for choices that make no difference."""
        return tuple(run.planned for run in self.runs)


@dataclass(frozen=True)
class Score:
    """Means over a trial's students at their last step: F1 on dev, and the cross-entropy of the
    gold answers there, if it was measured."""

    f1: float
    cross_entropy: float | None

    @property
    def order(self) -> tuple[float, float]:
        """By which the best is the largest: F1, then cross-entropy."""
        return self.f1, -(self.cross_entropy if self.cross_entropy is not None else 0.0)

    @classmethod
    def mean(cls, scores: Sequence["Score"]) -> "Score":
        """The means of some scores; of the cross-entropy if it was measured each time."""
        losses = [score.cross_entropy for score in scores if score.cross_entropy is not None]
        measured = mean(losses) if len(losses) == len(scores) else None
        return cls(mean(score.f1 for score in scores), measured)


class Search:
    """What is searched of one method, or of `objective`, and its trials. `described` narrows ranges
    or adds some, by name."""

    def __init__(self, experiment: Methods, method: str, described: Mapping | None = None):
        known = [*method_stages.known(), OBJECTIVE]
        if method not in known:
            raise StudyError(unknown("method", method, known))
        self.experiment, self.training, self.method = experiment, experiment.training, method
        self._families: dict[int, list[Family]] = {}
        self.space, self.fixed = self._space(described or {})

    @cached_property
    def recipe(self) -> list[dict]:
        """The stages of the method's default options."""
        if self.method == OBJECTIVE:
            return list(self.training.stages)
        return method_stages.known()[self.method].recipe(self.training.steps)

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways by which the method answers."""
        return method_stages.parse(self.recipe)[-1].prototype.ways

    @cached_property
    def losses(self) -> Mapping[str, Any]:
        """Those of the last stage that names some, which are searched. Raises StudyError where none
        does."""
        named = [stage[LOSSES] for stage in self.recipe if LOSSES in stage]
        if not named:
            raise StudyError("training.stages names no losses, whose weights would be searched.")
        return named[-1]

    @cached_property
    def decided(self) -> list[str]:
        """The options that the recipe sets itself."""
        return sorted({name for stage in self.recipe for name in stage.get("options", {})})

    @cached_property
    def options(self) -> dict[str, Option]:
        """The options by name, but for those that are decided."""
        if self.method == OBJECTIVE:
            return spaces.of_losses(self.losses)
        every = spaces.of(method_stages.known()[self.method])
        return {name: option for name, option in every.items() if name not in self.decided}

    @cached_property
    def extras(self) -> dict[str, Option]:
        """What can be searched if a range is given: the learning rate and the text to learn; of
        `objective` the losses, too."""
        lrs = self.training.lrs
        return {
            LR: Option(Rate, lrs[0] if len(lrs) == 1 else None),
            TARGETS: Option(plan_parts.Targets, self.training.targets),
        } | ({LOSSES: Option(dict, dict(self.losses))} if self.method == OBJECTIVE else {})

    def _space(self, described: Mapping[str, Any]) -> tuple[dict[str, Range], list[str]]:
        """What is searched where, and the options without a range. Raises StudyError for what is no
        range, and where nothing is left to search."""
        known = self.options | self.extras
        for name in described:
            if name not in known:
                raise StudyError(unknown("option", name, known))
        given = {
            name: _mixtures(value)
            if name == LOSSES
            else spaces.read(self.method, name, known[name].kind, value)
            for name, value in described.items()
        }
        open_options = {} if LOSSES in given else self.options
        ranges = {name: option.range for name, option in open_options.items()} | given
        for targets in getattr(given.get(TARGETS), "choices", ()):
            self.experiment.check_targets(targets)
        space = {name: where for name, where in ranges.items() if where is not None}
        if not any(map(spaces.is_open, space.values())):
            raise StudyError(
                f"{self.method} has nothing to search: give ranges of {', '.join(known)} in a file,"
                " by --space."
            )
        if mixed := [name for name in described if LOSSES in given and name in self.options]:
            raise StudyError(f"{mixed[0]} belongs to losses of the profile, `losses` names others.")
        return space, [*self.decided, *(name for name in open_options if name not in space)]

    @property
    def described(self) -> str:
        """What is searched where, and what is fixed, in words."""
        searched = [
            f"{name} {where}" for name, where in self.space.items() if spaces.is_open(where)
        ]
        kept = [
            f"{name} {where}" for name, where in self.space.items() if not spaces.is_open(where)
        ]
        fixed = f" Fixed: {', '.join([*kept, *self.fixed])}." if kept or self.fixed else ""
        return f"Searched: {'; '.join(searched)}.{fixed}"

    @property
    def defaults(self) -> dict[str, Any]:
        """What is chosen where nothing is searched; without a learning rate where the profile names
        several."""
        known = self.options | self.extras
        return {name: known[name].default for name in self.space if known[name].default is not None}

    @property
    def holds_defaults(self) -> bool:
        """Whether the defaults are among what is searched."""
        return self.defaults.keys() == self.space.keys() and all(
            value in self.space[name] for name, value in self.defaults.items()
        )

    def stages(self, chosen: Mapping[str, Any]) -> list[dict]:
        """The stages with these options."""
        changed = self._changed(chosen)
        if self.method != OBJECTIVE:
            return spaces.with_options(self.recipe, self.method, changed)
        losses = chosen.get(LOSSES, spaces.with_losses(self.losses, changed))
        return [
            stage | {LOSSES: losses} if stage.get(LOSSES) is self.losses else stage
            for stage in self.recipe
        ]

    def _changed(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are not the defaults. The others are not written down: so the defaults
        are the very run of the experiment `methods`."""
        return {
            name: value
            for name, value in chosen.items()
            if name in self.options and value != self.options[name].default
        }

    def recommended(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """What was chosen, as the YAML of the experiment `methods` has it: a method with its
        options, or the `stages` of `objective`."""
        lrs = {"lrs": [chosen[LR]]} if LR in chosen else {}
        training: dict[str, Any] = lrs | ({TARGETS: chosen[TARGETS]} if TARGETS in chosen else {})
        if self.method == OBJECTIVE:
            return {"training": {"stages": self.stages(chosen)} | training}
        changed = self._changed(chosen)
        methods = [{self.method: changed} if changed else self.method]
        return {"methods": methods} | ({"training": training} if training else {})

    def trial(self, chosen: Mapping[str, Any], seeds: Sequence[int] = ()) -> Trial:
        """The runs with these options, with the seeds of the experiment unless others are named."""
        seeds = tuple(seeds or self.experiment.seeds)
        try:
            runs = [
                self._student(family, chosen) for seed in seeds for family in self._of_seed(seed)
            ]
        except StudyError as error:
            return Trial(chosen, seeds, refused=str(error))
        return Trial(chosen, seeds, tuple(runs))

    def _student(self, family: Family, chosen: Mapping[str, Any]) -> Run:
        stages = self.stages(chosen)
        return family.student(
            FINE_TUNED,
            self.experiment.size,
            family.several(self.experiment.teachers(self.method)),
            stages=stages,
            targets=chosen.get(TARGETS, self.training.targets),
            title=method_stages.title(method_stages.parse(stages)),
            lrs=[chosen[LR]] if LR in chosen else (),
        )

    def _of_seed(self, seed: int) -> list[Family]:
        """The families with a seed, each planned once."""
        if seed not in self._families:
            alone = self.experiment.model_copy(update={"seeds": [seed]})
            self._families[seed] = [*families(alone, self.base, self.experiment.train_prompt)]
        return self._families[seed]

    @property
    def fresh_seeds(self) -> list[int]:
        """Seeds that the experiment does not name."""
        first = max(self.experiment.seeds) + 1
        return [*range(first, first + FRESH)]

    @cached_property
    def base(self) -> Plan:
        """A plan of the data sets, but for test sets."""
        return replace(self.experiment.begin(), tests=[])

    def plan(self, trials: Iterable[Trial]) -> Plan:
        """What some trials need."""
        students: list[tuple[Run, dict]] = [(run, {}) for trial in trials for run in trial.runs]
        return replace(self.base, trained=students, asked=[], costs=[])


def _mixtures(given: Any) -> Categorical:
    """Mixtures of losses to choose from. Raises StudyError for what is no list of them."""
    if not isinstance(given, list) or not given:
        raise StudyError(
            f"losses must be a list of mixtures like [{{forward_kl: 1}}], not {given!r}."
        )
    for losses in given:
        objective.parse(losses)
    return Categorical(tuple(given))


def score(trial: Trial, store: Store) -> Score | None:
    """That of a trial, or None unless all of its students are there."""
    store = store.snapshot()
    if not trial.runs or any(store.result(run) is None for run in trial.runs):
        return None
    last = [store.read(run, "curve.json")[-1] for run in trial.runs]
    return Score.mean([Score(values["dev_f1"], values.get("dev_cross_entropy")) for values in last])


def identity(search: Search, trial: Trial) -> str:
    """Names a choice, whatever the seeds and whatever makes no difference."""
    return canonical(search.recommended(trial.chosen)).decode()
