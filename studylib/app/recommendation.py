"""What a search found, as files: all trials, a table, and the recommended options as a YAML takes
them.

files(search, outcomes, retrained, {"profile": "tiny", "seed": 0, "batch": 1}, store)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

import pandas as pd
import yaml

from studylib.analysis import formats, tables
from studylib.app.trials import Outcome
from studylib.core.filesystem import canonical
from studylib.experiments.search import Score, Search, identity
from studylib.runs import inputs
from studylib.store.store import Store

BEST = 3  # trials that are trained anew beside the defaults
NONE = "–"
PASTE = "Merge it into a profile's methods.yaml. What stands under `training` holds for all arms."
BY_LUCK = (
    "The best of many scores is partly luck. So the defaults and the best trials were trained anew"
    " with fresh seeds. What beats the defaults with each of these is recommended, the best mean"
    " first. So few seeds are no test."
)


@dataclass(frozen=True)
class Retrained:
    """A trial of the search with its outcomes for fresh seeds."""

    outcome: Outcome
    again: Sequence[Outcome]

    @property
    def score(self) -> Score | None:
        """The mean over fresh seeds, if all of them were trained."""
        scores = [other.score for other in self.again if other.score is not None]
        return Score.mean(scores) if scores and len(scores) == len(self.again) else None


def best(search: Search, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The trials with the best scores, each choice once; without the defaults."""
    chosen = {identity(search, outcomes[0].trial): outcomes[0]}
    scored = [(outcome.score.order, outcome) for outcome in outcomes if outcome.score is not None]
    for _, outcome in sorted(scored, key=itemgetter(0), reverse=True):  # of equals the first
        chosen.setdefault(identity(search, outcome.trial), outcome)
    return list(chosen.values())[1 : BEST + 1]


def recommended(retrained: Sequence[Retrained]) -> Retrained:
    """The best by the mean over fresh seeds, among those that beat the defaults with each of them;
    else the defaults, as also where no training with fresh seeds came to an end."""
    defaults = retrained[0]
    better = [
        (each.score.order, each)
        for each in retrained[1:]
        if each.score is not None and _beats(each, defaults)
    ]
    return max(better, key=itemgetter(0))[1] if better else defaults


def _beats(each: Retrained, defaults: Retrained) -> bool:
    """Whether every fresh seed has a better score than the defaults have, where these have any."""
    return all(
        before.score is None or (score.score is not None and score.score.order > before.score.order)
        for score, before in zip(each.again, defaults.again, strict=True)
    )


def line(outcome: Outcome) -> str:
    """A trial in a line of a log."""
    chosen = _chosen(outcome)
    if outcome.score is None:
        return f"trial {outcome.number} failed ({chosen}): {outcome.why}"
    return f"trial {outcome.number}: dev F1 {outcome.score.f1:.1f} ({chosen})"


def _chosen(outcome: Outcome) -> str:
    """The options of a trial, in words."""
    shown = (
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in outcome.trial.chosen.items()
    )
    return ("defaults: " if outcome.number == 0 else "") + ", ".join(shown)


def files(
    search: Search,
    outcomes: Sequence[Outcome],
    retrained: Sequence[Retrained],
    how: Mapping[str, Any],
    store: Store,
) -> tuple[dict[str, str], str]:
    """The files by name, and the sentence on what is recommended."""
    store, winner = store.snapshot(), recommended(retrained)
    sentence = _sentence(search, retrained, winner)
    trials = [_record(outcome, store) for outcome in outcomes]
    values = search.recommended(winner.outcome.trial.chosen)
    written = {
        "method": search.method,
        **how,
        "steps": search.training.steps,
        "batch_size": search.training.batch_size,
        "space": {name: asdict(where) for name, where in search.space.items()},
        "fixed": search.fixed,
        "trials": trials,
        "retrained": [
            {"trial": each.outcome.number, "again": [_record(other, store) for other in each.again]}
            for each in retrained
        ],
        "recommended": {"trial": winner.outcome.number, "parameters": values},
    }
    table = pd.DataFrame([_flat(trial, list(search.space)) for trial in trials])
    options = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=1000)
    return {
        "trials.json": json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "trials.csv": table.to_csv(index=False, lineterminator="\n"),
        "table.md": _text(search, outcomes, retrained, sentence),
        "recommended.yaml": f"# {sentence}\n# {BY_LUCK}\n# {PASTE}\n{options}",
    }, sentence


def _record(outcome: Outcome, store: Store) -> dict[str, Any]:
    """A trial as JSON has it."""
    score = outcome.score
    return {
        "trial": outcome.number,
        "state": "done" if score else "failed",
        "seeds": list(outcome.trial.seeds),
        "options": dict(outcome.trial.chosen),
        "dev_f1": score.f1 if score else None,
        "dev_cross_entropy": score.cross_entropy if score else None,
        "why": outcome.why,
        "runs": [store.key(run) for run in outcome.trial.runs],
    }


def _flat(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A trial as a line of a table, its options in columns."""
    options = {
        f"option {name}": canonical(value).decode() if isinstance(value, Mapping) else value
        for name in names
        for value in [record["options"].get(name)]
    }
    rest = {name: value for name, value in record.items() if name not in ("options", "seeds")}
    return {**rest, "runs": " ".join(key or "" for key in record["runs"])} | options


def _added(each: Retrained, defaults: Retrained) -> str:
    """Points of dev F1 that a choice adds to the defaults, by the mean over fresh seeds; nothing
    where one of them failed."""
    score, before = each.score, defaults.score
    return formats.signed(score.f1 - before.f1) if score and before else ""


def _sentence(search: Search, retrained: Sequence[Retrained], winner: Retrained) -> str:
    """What is recommended, and what it is worth."""
    seeds, defaults = " and ".join(map(str, search.fresh_seeds)), retrained[0]
    if winner.score is None:
        return f"{search.method}: no training with seeds {seeds} came to an end: keep the defaults."
    mean_f1 = f"mean dev F1 {winner.score.f1:.1f} over seeds {seeds}"
    if winner is defaults:
        return f"{search.method}: keep the defaults, no trial did better with each seed: {mean_f1}."
    added = _added(winner, defaults)
    beside = f"{added} points to the defaults" if added else "the defaults failed"
    return (
        f"{search.method}: trial {winner.outcome.number} ({_chosen(winner.outcome)}) is"
        f" recommended: {mean_f1}, {beside}."
    )


def _text(
    search: Search, outcomes: Sequence[Outcome], retrained: Sequence[Retrained], sentence: str
) -> str:
    """The tables in Markdown, with what belongs to their numbers."""
    training, dev = search.training, len(inputs.questions(search.base.dev))
    notes = [
        f"Dev F1 is on {dev} dev questions after the last step; no test set was asked.",
        f"Every trial has {training.steps} steps of {training.batch_size} contexts.",
        search.described,
        BY_LUCK,
    ]
    if any(filter(None, search.ways)):
        notes.append("Dev is asked in the usual way, whatever other ways the method answers by.")
    again = tables.markdown(pd.DataFrame([_again(each, retrained[0]) for each in retrained]))
    every = tables.markdown(pd.DataFrame([_cells(outcome) for outcome in outcomes]))
    return f"{sentence}\n\n{again}\n\n{' '.join(notes)}\n\n## All trials\n\n{every}\n"


def _again(each: Retrained, defaults: Retrained) -> dict[str, str]:
    """A line of the table of what was trained anew."""
    return {
        "trial": str(each.outcome.number),
        "search": _f1(each.outcome, NONE),
        **{f"seed {other.trial.seeds[0]}": _f1(other) for other in each.again},
        "mean of fresh seeds": _f1(each, NONE),
        "minus defaults": NONE if each is defaults else _added(each, defaults) or NONE,
        "options": _cell(_chosen(each.outcome)),
    }


def _cells(outcome: Outcome) -> dict[str, str]:
    """A line of the table of all trials."""
    loss = outcome.score.cross_entropy if outcome.score else None
    return {
        "trial": str(outcome.number),
        "dev F1": _f1(outcome),
        "dev cross-entropy": NONE if loss is None else f"{loss:.3f}",
        "options": _cell(_chosen(outcome)),
        "why it failed": _cell(outcome.why) if outcome.why else NONE,
    }


def _f1(scored: Outcome | Retrained, lacking: str = "failed") -> str:
    return lacking if scored.score is None else f"{scored.score.f1:.1f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
