"""Tables with what figures draw, made up."""

import numpy as np
import pandas as pd

from studylib.analysis import cost, figures, retention, teacher_vs_student

# F1 of students by who taught them
TAUGHT = {"fine-tuned": 0.6, "base": 0.4, "smaller, fine-tuned": 0.5, "self-distillation": 0.45}


def timed(kept):
    """What answers of these models cost, made up."""
    measured = {
        f"{whose}{what}": 5.0
        for whose in ("", "teacher_")
        for what in ("milliseconds", "memory", "disk")
    }
    each = measured | {
        "time": 60.0 + 10 * np.arange(len(kept)),
        "time_low": 50.0,
        "time_high": 200.0,
    }
    return cost.pareto(
        kept.drop(columns=["eval_prompt", *retention.BOUNDS["f1"]]).assign(
            seed=0, planned="p", **each
        )
    )


def learned():
    """A curve of one step."""
    setting = {
        "family": "f",
        "student": "",
        "role": "teacher",
        "init": "base",
        "teacher": "fine-tuned",
        "objective": "cross_entropy",
        "train_prompt": "zero-shot",
        "seed": 0,
    }
    return pd.DataFrame([setting | {"step": 1, "loss": 1.0, "dev_loss": 1.0, "dev_f1": 5.0}])


def kinds():
    """What a demonstration adds for two kinds of question (`prompting.by_trait`), made up."""
    gain = {"difference": [5.0, 6.0], "low": [4.0, 5.0], "high": [6.0, 7.0]}
    apart = {"apart": [1.0, 2.0], "apart_low": [-2.0, None], "apart_high": [3.0, None]}
    traits = {"trait": ["asks", "answer in the"], "value": ["who", "first third"]}
    return pd.DataFrame({"family": "f", "test_set": "t", **traits, "n": [30, 40], **gain, **apart})


def choice_figures(rows):
    """The figures of the choice of teachers by name, from rows."""
    kept, scores = retention.compare(rows), teacher_vs_student.compare(rows)
    drawn = figures.teacher_choice(kept, retention.by_seed(rows), scores, learned())
    return {name: figure for name, (figure, _) in drawn.items()}
