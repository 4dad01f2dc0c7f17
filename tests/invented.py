"""Rows with scores that are made up, to compare and to show."""

import numpy as np
import pandas as pd

from studylib.analysis import contrasts, retention
from studylib.core.filesystem import digest

FREE = pd.DataFrame(
    columns=["family", "test_set", "role", "start", "student", "time", "time_low", "time_high"]
)  # no costs were measured


def compared(scores, teacher=0.8, articles=4):
    """Comparison of a teacher and of students, and of these with their twins: {(role, depth): F1 of
    every question}, 25 questions an article."""
    base = dict(
        family="f",
        teacher="f",
        start="tuned",
        targets="teacher",
        objective="forward_kl",
        trained="zero-shot",
        asked="zero-shot",
    )
    base |= dict(test_set="near", language="en", seed=0, steps=5, repeat=False, untouched=True)
    lines = []
    for (role, depth), value in {("teacher", 10): teacher, **scores}.items():
        about = {
            "role": role,
            "student": "" if role == "teacher" else f"f-{depth}",
            "run": f"{role}{depth}",
        }
        size = float(str(depth).replace("x", "."))  # a little larger with neurons cut, too
        about |= {"parameters_total": 100 + 10 * size, "parameters_nonembedding": 10 * size}
        for number in range(25 * articles):
            scored = {
                "exact_match": value / 2,
                "f1": value,
                "rouge_l": value,
                "probability": 0.5,
                "agreement": 0.5,
                "loyalty": 0.5,
            }
            lines.append(
                base
                | about
                | scored
                | {
                    "question": f"q{number}",
                    "article": f"a{number % articles}",
                }
            )
    table = pd.DataFrame(lines)
    return retention.compare(table), contrasts.contrasts(table)


def choice(**students):
    """Rows of a tuned teacher of 80 F1, of two guides, and of students by who taught them: 40
    articles of four questions."""
    base = dict(
        family="f",
        trained="zero-shot",
        asked="zero-shot",
        test_set="near",
        language="en",
        seed=0,
        steps=5,
        start="raw",
    )
    base |= {
        "parameters_total": 150,
        "parameters_nonembedding": 50,
        "objective": "o",
        "probability": 0.5,
        "agreement": 0.5,
        "loyalty": 0.5,
    }
    base |= {"repeat": False, "untouched": True}
    scores = {
        ("teacher", "tuned"): 0.8,
        ("guide", "raw"): 0.3,
        ("guide", "small"): 0.6,
        ("twin", "nobody"): 0.5,
    }
    scores |= {("student", name): value for name, value in students.items()}
    frames = []
    for (role, teacher), value in scores.items():
        about = {
            "role": role,
            "teacher": teacher,
            "student": "" if role in ("teacher", "guide") else "f-5",
            "targets": "teacher",
            "run": teacher,
        }
        about |= {"exact_match": value / 2, "f1": value, "rouge_l": value}
        questions = {
            "question": [f"q{i}" for i in range(160)],
            "article": [f"a{i // 4}" for i in range(160)],
        }
        frames.append(pd.DataFrame(questions).assign(**base | about))
    return pd.concat(frames)


BASE = dict(
    family="f",
    teacher="tuned",
    trained="zero-shot",
    asked="zero-shot",
    language="en",
    start="tuned",
    targets="teacher",
    objective="o",
    steps=5,
    repeat=False,
    untouched=True,
)


def rows(role, f1, *, depth=10, seed=0, test_set="near", articles=5, per=4, questions=None, **more):
    """Per-question rows of one model; `f1` a number or a value per question."""
    names = questions or [f"q{i}" for i in range(articles * per)]
    values = np.broadcast_to(f1, len(names))
    table = pd.DataFrame(
        {"question": names, "article": [f"a{i // per}" for i in range(len(names))], "f1": values}
    )
    counts = {"parameters_total": 100 + 10 * depth, "parameters_nonembedding": 10 * depth}
    about = {
        "role": role,
        "student": "" if role == "teacher" else f"f-{depth}",
        "seed": seed,
        "test_set": test_set,
    }
    beside = {"probability": 0.5, "agreement": 0.25, "loyalty": 0.75}
    about |= {"run": digest(BASE | about | {name: str(value) for name, value in more.items()})}
    return table.assign(
        exact_match=values / 2, rouge_l=values, **BASE | beside | counts | about | more
    )


def marked(role: str, f1: float, other: float, *, column: str, value: bool, **more) -> pd.DataFrame:
    """Rows of 40 articles, in every other of which the questions, marked so, score otherwise."""
    table = rows(role, f1, articles=40, **more)
    apart = table.article.str[1:].astype(int) % 2 == 1
    return table.assign(f1=table.f1.where(~apart, other), **{column: apart if value else ~apart})
