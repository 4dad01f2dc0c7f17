"""`study search`: the options of a method by which its student does best on dev. Every trial has
the same steps and batches.

study search tiny --method hinton

Options are sampled by Optuna's TPE; trial 0 has the defaults. The best ones and the defaults are
then trained anew with fresh seeds, by which one of them is recommended: the search itself
prefers who was lucky. Stopped, the same command goes on: it samples the same trials anew, and those
that the store has are answered at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studylib.app import notebooks, parameters, recommendation
from studylib.app.recommendation import BEST, Retrained
from studylib.app.trials import Outcome, Trials
from studylib.core.errors import StudyError
from studylib.core.filesystem import canonical
from studylib.core.progress import say
from studylib.core.project import figures_folder
from studylib.experiments import experiments
from studylib.experiments.methods import Methods
from studylib.experiments.search import FRESH, Search
from studylib.methods.spaces import Float, Int, Range
from studylib.store import output_folder

RANDOM = 8  # trials before the sampler learns from them
TIE = 1e-6  # a nat of cross-entropy in points of F1: decides between equal scores alone


def search(
    profile: str, method: str, trials: int, batch: int, seed: int, space: Path | None
) -> None:
    """Search among a method's options, and write trials, a table and what is recommended. Raises
    StudyError for what is no number of trials, without Optuna, and where every trial failed."""
    for name, value, least in (("trials", trials, 1), ("batch", batch, 1), ("seed", seed, 0)):
        if value < least:
            raise StudyError(f"--{name} must be a whole number of at least {least}, not {value}.")
    optuna, values = _optuna(), notebooks.given(profile, "methods")
    experiment = experiments.configured("methods", values)
    assert isinstance(experiment, Methods)
    described = parameters.loaded(space) if space else {}
    chosen = Search(experiment, method, described)
    folder = figures_folder(values["profile"], "search") / method
    say(_announced(chosen, trials))
    sampler = Sampler(optuna, chosen, seed, several=batch > 1)
    title = f"search {method} ({values['profile']})"
    with Trials(chosen, title, batch) as make:
        outcomes = _searched(chosen, sampler, make, trials, batch)
        retrained = _retrained(chosen, outcomes, make, batch)
    how = {"profile": values["profile"], "seed": seed, "batch": batch}
    files, sentence = recommendation.files(chosen, outcomes, retrained, how, make.store)
    _write(folder, files)
    say(f"{sentence}\nTrials, table and what is recommended: {folder}")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise StudyError("study search needs Optuna: pip install 'studylib[search]'.") from None
    return optuna


def _announced(search: Search, trials: int) -> str:
    """What will be done, in words."""
    training = search.training
    return (
        f"{search.method}: {trials} trials of {training.steps} steps of {training.batch_size}"
        f" contexts. {search.described}"
    )


class Sampler:
    """Optuna's sampler in a space; the same seed and the same scores make the same choices. It is
    not told of the defaults where they lie outside the space."""

    def __init__(self, optuna: Any, search: Search, seed: int, several: bool):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna, self.search, self.asked = optuna, search, 0
        self.labels = {
            name: {canonical(choice).decode(): choice for choice in where.choices}
            for name, where in search.space.items()
            if not isinstance(where, Float | Int)
        }
        self.distributions = {
            name: self._distribution(name, where) for name, where in search.space.items()
        }
        tpe = optuna.samplers.TPESampler(
            seed=seed, multivariate=True, n_startup_trials=RANDOM, constant_liar=several
        )
        self.study = optuna.create_study(direction="maximize", sampler=tpe)
        self.open: dict[int, Any] = {}  # of Optuna's trials, by our numbers
        if search.holds_defaults:
            self.study.enqueue_trial(
                {name: self._label(name, value) for name, value in search.defaults.items()}
            )

    def _label(self, name: str, value: Any) -> Any:
        """A value as Optuna has it: one of several as text."""
        labels = self.labels.get(name, {})
        return next((label for label, choice in labels.items() if choice == value), value)

    def _distribution(self, name: str, where: Range) -> Any:
        kinds = self.optuna.distributions
        if isinstance(where, Float):
            return kinds.FloatDistribution(where.low, where.high, log=where.log)
        if isinstance(where, Int):
            return kinds.IntDistribution(where.low, where.high, log=where.log)
        return kinds.CategoricalDistribution(list(self.labels[name]))

    def ask(self) -> Mapping[str, Any]:
        """What the next trial chooses; the first one the defaults."""
        number, self.asked = self.asked, self.asked + 1
        if number or self.search.holds_defaults:
            self.open[number] = self.study.ask(self.distributions)
        if not number:
            return self.search.defaults
        return {
            name: self.labels[name][value]
            if name in self.labels
            else self.search.space[name].tidy(value)
            for name, value in self.open[number].params.items()
        }

    def tell(self, outcome: Outcome) -> None:
        """Take note of a trial's score; a failed one counts as an F1 of 0, so that others keep
        away."""
        trial, score = self.open.pop(outcome.number, None), outcome.score
        if trial is None:
            return
        self.study.tell(trial, score.f1 - TIE * (score.cross_entropy or 0.0) if score else 0.0)


def _searched(
    search: Search, sampler: Sampler, make: Trials, count: int, batch: int
) -> list[Outcome]:
    """So many trials, `batch` at once; each batch is told in order before the next is sampled.
    Raises StudyError where all of them failed."""
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        number = min(batch, count - len(outcomes))
        asked = [search.trial(sampler.ask()) for _ in range(number)]
        left = count - len(outcomes) - number
        retrained = FRESH * min(count, BEST + 1)
        for outcome in make(asked, first=len(outcomes), later=left + retrained, fresh=FRESH):
            sampler.tell(outcome)
            outcomes.append(outcome)
            say(recommendation.line(outcome))
    if all(outcome.score is None for outcome in outcomes):
        raise StudyError(f"All {count} trials failed, the first one because: {outcomes[0].why}")
    return outcomes


def _retrained(
    search: Search, outcomes: Sequence[Outcome], make: Trials, batch: int
) -> list[Retrained]:
    """The defaults and the best trials again, with fresh seeds."""
    again = [outcomes[0], *recommendation.best(search, outcomes)]
    pairs = [(outcome, seed) for seed in search.fresh_seeds for outcome in again]
    results: dict[int, list[Outcome]] = {outcome.number: [] for outcome in again}
    for start in range(0, len(pairs), batch):
        some = pairs[start : start + batch]
        trials = [search.trial(outcome.trial.chosen, [seed]) for outcome, seed in some]
        made_anew = make(trials, first=start, later=len(pairs) - start - len(some))
        for (outcome, _), result in zip(some, made_anew, strict=True):
            results[outcome.number].append(replace(result, number=outcome.number))
    return [Retrained(outcome, results[outcome.number]) for outcome in again]


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Replace the files of a folder by these, all or none; one search of a profile at a time."""
    with output_folder.alone(folder.parent):
        folder.mkdir(parents=True, exist_ok=True)
        with output_folder.draft(folder) as draft:
            for name, text in files.items():
                (draft / name).write_text(text, encoding="utf-8")
