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
from typing import Any, cast

from studylib.app import notebooks, parameters, recommendation
from studylib.app.recommendation import BEST, Retrained
from studylib.app.trials import Outcome, Trials
from studylib.core.errors import StudyError
from studylib.core.progress import say
from studylib.core.project import figures_folder
from studylib.experiments import experiments
from studylib.experiments.methods import Methods
from studylib.experiments.search import FRESH, Search
from studylib.methods.spaces import Categorical, Float, Range
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
    try:
        import optuna
    except ImportError:
        raise StudyError("study search needs Optuna: pip install 'studylib[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    values = notebooks.given(profile, "methods")
    experiment = cast(Methods, experiments.configured("methods", values))
    chosen = Search(experiment, method, parameters.loaded(space) if space else {})
    folder = figures_folder(values["profile"], "search") / method
    training = chosen.training
    say(
        f"{method}: {trials} trials of {training.steps} steps of {training.batch_size} contexts."
        f" {chosen.described}"
    )
    with Trials(chosen, f"search {method} ({values['profile']})", batch) as make:
        sampler = Sampler(chosen, seed, several=batch > 1)
        outcomes = _searched(chosen, sampler, make, trials, batch)
        retrained = _retrained(chosen, outcomes, make, batch)
    how = {"profile": values["profile"], "seed": seed, "batch": batch}
    files, sentence = recommendation.files(chosen, outcomes, retrained, how, make.store)
    with output_folder.alone(folder.parent):  # one search of a profile at a time
        folder.mkdir(parents=True, exist_ok=True)
        with output_folder.draft(folder) as draft:  # all of them, or none
            for name, text in files.items():
                (draft / name).write_text(text, encoding="utf-8")
    say(f"{sentence}\nTrials, table and what is recommended: {folder}")


class Sampler:
    """Optuna's sampler in a space; the same seed and the same scores make the same choices. It is
    not told of the defaults where they lie outside the space. One of several values is to Optuna
    the number of its place among them."""

    def __init__(self, search: Search, seed: int, several: bool):
        from optuna import create_study
        from optuna.samplers import TPESampler

        self.search, self.asked = search, 0
        self.distributions = {name: _distribution(where) for name, where in search.space.items()}
        self.study = create_study(
            direction="maximize",
            sampler=TPESampler(
                seed=seed, multivariate=True, n_startup_trials=RANDOM, constant_liar=several
            ),
        )
        self.open: dict[int, Any] = {}  # of Optuna's trials, by our numbers
        if search.holds_defaults:
            self.study.enqueue_trial(
                {
                    name: where.choices.index(search.defaults[name])
                    if isinstance(where, Categorical)
                    else search.defaults[name]
                    for name, where in search.space.items()
                }
            )

    def ask(self) -> Mapping[str, Any]:
        """What the next trial chooses; the first one the defaults."""
        number, self.asked = self.asked, self.asked + 1
        if number or self.search.holds_defaults:
            self.open[number] = self.study.ask(self.distributions)
        if not number:
            return self.search.defaults
        params = self.open[number].params
        return {
            name: where.choices[params[name]]
            if isinstance(where, Categorical)
            else where.tidy(params[name])
            for name, where in self.search.space.items()
        }

    def tell(self, outcome: Outcome) -> None:
        """Take note of a trial's score; a failed one counts as an F1 of 0, so that others keep
        away."""
        if outcome.number in self.open:
            trial, score = self.open.pop(outcome.number), outcome.score
            self.study.tell(trial, score.f1 - TIE * (score.cross_entropy or 0.0) if score else 0.0)


def _distribution(where: Range) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(where, Categorical):
        return CategoricalDistribution(range(len(where.choices)))
    kind: Any = FloatDistribution if isinstance(where, Float) else IntDistribution
    return kind(where.low, where.high, log=where.log)


def _searched(
    search: Search, sampler: Sampler, make: Trials, count: int, batch: int
) -> list[Outcome]:
    """So many trials, `batch` at once; each batch is told in order before the next is sampled.
    Raises StudyError where all of them failed."""
    outcomes: list[Outcome] = []
    retrained = FRESH * min(count, BEST + 1)
    for first in range(0, count, batch):
        asked = [search.trial(sampler.ask()) for _ in range(min(batch, count - first))]
        later = count - first - len(asked) + retrained
        for outcome in make(asked, first=first, later=later, fresh=FRESH):
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
    for first in range(0, len(pairs), batch):
        some = pairs[first : first + batch]
        trials = [search.trial(outcome.trial.chosen, [seed]) for outcome, seed in some]
        trained = make(trials, first=first, later=len(pairs) - first - len(some))
        for (outcome, _), result in zip(some, trained, strict=True):
            results[outcome.number].append(replace(result, number=outcome.number))
    return [Retrained(outcome, results[outcome.number]) for outcome in again]
