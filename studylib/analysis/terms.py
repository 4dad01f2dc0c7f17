"""Standard terms for what rows call otherwise, in tables, figures and sentences.

terms.standard(kept)     the table as it is shown
"""

import pandas as pd

from studylib.analysis import contrasts, prompting
from studylib.core.labels import FOLDED, NOBODY, RAW, TUNED, TWIN, TWO

TERMS = {
    "twin": "control",
    "rival": "student (other losses)",
    "pupil": "student (smaller teacher)",
    "guide": "teacher",
    TUNED: "fine-tuned",
    RAW: "base",
    f"{RAW} with a demonstration": "base with a demonstration",
    "smaller, tuned": "smaller, fine-tuned",
    "smaller, taught": "smaller, distilled",
    TWO: "ensemble: fine-tuned and smaller",
    TWIN: "self-distillation",
    NOBODY: "none (gold only)",
    FOLDED: "fine-tuned with a demonstration",
    contrasts.ADDED: "student − control",
    "rival − student": "other losses − main losses",
    "pupil − student": "smaller teacher − uncut teacher",
    contrasts.INHERITED["student"]: "fine-tuned − base init, students",
    contrasts.INHERITED["twin"]: "fine-tuned − base init, controls",
    prompting.FOLDING: "context distillation",
    prompting.BOTH: "context distillation, with a demonstration in asking",
}
PHRASES = {
    "twin of ": "control of ",
    "the demonstration folded in, not unseen": "with context distillation, not without",
}
COLUMNS = ("role", "start", "teacher", "contrast", "ways")


def term(word: str) -> str:
    """The standard term for a role, start, teacher, contrast or way of prompting."""
    for phrase, standard_phrase in PHRASES.items():
        word = word.replace(phrase, standard_phrase)
    return TERMS.get(word, word)


def standard(table: pd.DataFrame) -> pd.DataFrame:
    """The table with standard terms in these columns."""
    return table.assign(**{name: table[name].map(term) for name in COLUMNS if name in table})


def titled(table: pd.DataFrame, family: str, *others: str) -> str:
    """What a part of a table is of, in words: its family only where there are several."""
    return ", ".join([family, *others] if table.family.nunique() > 1 else others)
