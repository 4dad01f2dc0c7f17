"""What answers cost in time, memory and disk, beside the teacher's.

timing(plan, rows, folder=folder)
"""

from pathlib import Path

import pandas as pd

from studylib.analysis import pairing, run_ids
from studylib.core import labels
from studylib.experiments.plans import Plan
from studylib.store import exports
from studylib.store.exports import IDENTITY
from studylib.store.store import Store

MODELS = {"": "model", "teacher_": "teacher"}  # beginnings of columns, and whose they are
MEASURED = [f"{whose}{what}" for whose in MODELS for what in ("milliseconds", "memory", "disk")]
TIMES = ["time", "time_low", "time_high"]
TRAINED = [name for name in IDENTITY if name not in ("eval_prompt", "test_set", "language")]
GROUP = ["family", "train_prompt", "seed"]


def timing(
    plan: Plan, table: pd.DataFrame, store: Store | None = None, folder: Path | None = None
) -> pd.DataFrame:
    """What answers cost, against their scores in `table`: a line per model and test set, asked as
    it was trained.

    Milliseconds a question, memory and disk in megabytes, beside the teacher's, which were measured
    in turns with each student's (in the teacher's own line the medians of these); `time` is in
    percent of the teacher's, the median of a few rounds from `time_low` to `time_high`; `runs` are
    those that measured it and those that the scores are of. Of students that the store does not
    have, what was exported to `folder`.
    """
    students = _costs(plan, (store or Store()).snapshot(), folder)
    models = pd.concat([_teachers(students, table), students], ignore_index=True)
    asked = pairing.distinct(table[table.eval_prompt == table.train_prompt]).groupby(
        [*TRAINED, "test_set"], sort=False
    )
    scores = (100 * asked[["f1", "exact_match"]].mean()).assign(
        answers=asked.run.agg(run_ids.joined)
    )
    costs = models.merge(scores.reset_index(), on=TRAINED)
    runs = zip(costs.pop("runs"), costs.pop("answers"), strict=True)
    return costs.assign(runs=list(map(run_ids.joined, runs)))


def _costs(plan: Plan, store: Store, folder: Path | None) -> pd.DataFrame:
    """What the answers of each student cost, beside its teacher's."""
    lines = []
    exported, origins = exports.records(folder, "timing.csv"), exports.records(folder, "runs.csv")
    for run, called in plan.costs:
        if (result := store.result(run)) is not None:
            facts, key = result["facts"], store.folder(run).name
            measured = {
                whose + what: value
                for whose, model in MODELS.items()
                for what, value in facts[model].items()
            }
            line = measured | facts["shares"] | {"planned": run.planned}
        elif run.planned in exported:
            line, key = exported[run.planned], origins[run.planned]["key"]
        else:
            continue
        lines.append(line | called | {"runs": run_ids.joined([key])})
    return pd.DataFrame(lines, columns=[*TRAINED, *MEASURED, *TIMES, "planned", "runs"])


def _teachers(students: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What the answers of each teacher in `table` cost: the medians of what was measured beside its
    students."""
    taught, beside = students.groupby(GROUP, sort=False), MEASURED[3:]
    costs = taught[beside].median().assign(runs=taught.runs.agg(run_ids.joined))
    same = costs.rename(columns=dict(zip(beside, MEASURED[:3], strict=True)))
    costs = costs.assign(**same, **dict.fromkeys(TIMES, 100.0)).reset_index()
    fine_tuned = (table.role == labels.TEACHER) & (table.teacher == labels.FINE_TUNED)
    return table.loc[fine_tuned, TRAINED].drop_duplicates().merge(costs, on=GROUP)
