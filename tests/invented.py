"""Rows with scores that are made up, to compare and to show."""

import numpy as np
import pandas as pd

from studylib.analysis import contrasts, retention, statistics
from studylib.core.filesystem import digest
from studylib.core.labels import (
    BASE,
    CONTROL,
    FINE_TUNED,
    GOLD_ONLY,
    OTHER_LOSSES,
    SMALLER_FINE_TUNED,
    SMALLER_TEACHER,
    STUDENT,
    TEACHER,
    control_of,
)

FREE = pd.DataFrame(
    columns=["family", "test_set", "role", "init", "student", "teacher", "objective"]
).assign(time=0.0, time_low=0.0, time_high=0.0)  # no costs were measured
ARMS = {  # of models: what tells them from a main student
    TEACHER: {"role": TEACHER},
    STUDENT: {},
    CONTROL: {"role": CONTROL, "teacher": GOLD_ONLY},
    OTHER_LOSSES: {"objective": "taid"},
    SMALLER_TEACHER: {"teacher": control_of(5)},
}
SHARED = dict(
    family="f",
    role=STUDENT,
    teacher=FINE_TUNED,
    init=FINE_TUNED,
    targets="gold",
    objective="forward_kl",
    train_prompt="zero-shot",
    eval_prompt="zero-shot",
    test_set="near",
    language="en",
    seed=0,
    steps=5,
    repeat=False,
    untouched=True,
)


def compared(scores, teacher=0.8, articles=4):
    """A teacher compared with students, and these with their controls, of the same."""
    table = table_of(scores, teacher, articles)
    return retention.compare(table), contrasts.contrasts(table)


def table_of(scores, teacher=0.8, articles=4):
    """Rows of a teacher, and of students and controls: {(arm, depth): F1 of every question}, 25
    questions an article."""
    frames = []
    for (arm, depth), value in {(TEACHER, 10): teacher, **scores}.items():
        size = float(str(depth).replace("x", "."))  # a little larger with neurons cut, too
        model = SHARED | ARMS[arm] | {"arm": arm}
        model |= {
            "student": "" if arm == TEACHER else f"f-{depth}",
            "run": f"{arm}{depth}",
            "parameters_total": 100 + 10 * size,
            "parameters_nonembedding": 10 * size,
        }
        model |= {"exact_match": value / 2, "f1": value, "rouge_l": value}
        model |= {"probability": 0.5, "agreement": 0.5, "loyalty": 0.5}
        numbers = range(25 * articles)
        questions = {
            "question": [f"q{number}" for number in numbers],
            "article": [f"a{number % articles}" for number in numbers],
        }
        frames.append(pd.DataFrame(questions).assign(**model))
    return pd.concat(frames, ignore_index=True)


def choice(**students):
    """Rows of a fine-tuned teacher of 80 F1, of two other teachers, and of students by who taught
    them: 40 articles of four questions."""
    shared = SHARED | {
        "init": BASE,
        "parameters_total": 150,
        "parameters_nonembedding": 50,
        "probability": 0.5,
        "agreement": 0.5,
        "loyalty": 0.5,
    }
    scores = {
        (TEACHER, FINE_TUNED): 0.8,
        (TEACHER, BASE): 0.3,
        (TEACHER, SMALLER_FINE_TUNED): 0.6,
        (CONTROL, GOLD_ONLY): 0.5,
    }
    scores |= {(STUDENT, name): value for name, value in students.items()}
    frames = []
    for (role, teacher), value in scores.items():
        model = {
            "role": role,
            "teacher": teacher,
            "student": "" if role == TEACHER else "f-5",
            "run": teacher,
        }
        model |= {"exact_match": value / 2, "f1": value, "rouge_l": value}
        questions = {
            "question": [f"q{i}" for i in range(160)],
            "article": [f"a{i // 4}" for i in range(160)],
        }
        frames.append(pd.DataFrame(questions).assign(**shared | model))
    return pd.concat(frames)


def rows(role, f1, *, depth=10, seed=0, test_set="near", articles=5, per=4, questions=None, **more):
    """Per-question rows of one model; `f1` a number or a value per question."""
    names = questions or [f"q{i}" for i in range(articles * per)]
    values = np.broadcast_to(f1, len(names))
    table = pd.DataFrame(
        {"question": names, "article": [f"a{i // per}" for i in range(len(names))], "f1": values}
    )
    model = {
        "role": role,
        "arm": role,
        "student": "" if role == TEACHER else f"f-{depth}",
        "seed": seed,
        "test_set": test_set,
        "parameters_total": 100 + 10 * depth,
        "parameters_nonembedding": 10 * depth,
    }
    likeness = {"probability": 0.5, "agreement": 0.25, "loyalty": 0.75}
    model |= {"run": digest(SHARED | model | {name: str(value) for name, value in more.items()})}
    return table.assign(exact_match=values / 2, rouge_l=values, **SHARED | likeness | model | more)


def resampled_means(
    values: np.ndarray, clusters: np.ndarray, rng: np.random.Generator, repeats: int
) -> np.ndarray:
    """Two-level bootstrap: means (repeats, ...) of values (..., S, n), by draws of this generator
    that all leading entries share."""
    drawn = statistics.draws(values.shape[-2], len(set(clusters)), rng, repeats)
    return statistics.means_of(values, clusters, drawn)


def marked(role: str, f1: float, other: float, *, column: str, value: bool, **more) -> pd.DataFrame:
    """Rows of 40 articles, in every other of which the questions, marked so, score otherwise."""
    table = rows(role, f1, articles=40, **more)
    apart = table.article.str[1:].astype(int) % 2 == 1
    return table.assign(f1=table.f1.where(~apart, other), **{column: apart if value else ~apart})
