"""Whether students are shown to keep enough of their teacher, in words: claims rest on untouched
questions alone.

claims.judgement(students, claims.headline(claims.untouched(kept), "zero-shot"))
"""

from collections.abc import Iterator

import pandas as pd

from studylib.analysis import comparison, tables
from studylib.analysis.comparison import BOUNDS, HEAD_STARTS
from studylib.core import sizes


def headline(kept: pd.DataFrame, asked: str) -> pd.DataFrame:
    """The lines that the claim is about: students and twins, asked so, of which is known what they
    keep."""
    return kept[
        (kept.asked == asked) & kept.start.isin(HEAD_STARTS) & kept.role.isin(("student", "twin"))
    ].dropna(subset="retention_f1")


def untouched(kept: pd.DataFrame) -> pd.DataFrame:
    """The lines that a claim may rest on: those of questions none of which was looked at while
    choices were made."""
    return kept[kept.untouched == kept.n]


def way(student: str) -> str:
    """How a student was cut."""
    return sizes.named(student).way


def sentences(students: pd.DataFrame, claims: pd.DataFrame) -> Iterator[str]:
    """What students are shown to keep, and their twins, and on which questions."""
    own, twins = (claims[claims.role == role] for role in ("student", "twin"))
    if own.empty:
        yield "Nothing is claimed: all questions were looked at while choices were made."
        return
    sure = own[BOUNDS["retention_f1"][0]].notna().all()
    how = "is shown to be kept" if sure else "is kept, by estimates without intervals,"
    yield f"At least {comparison.MARGIN:.0f} % of F1 and EM {how} {_smallest_each(own, 'student')}."
    if len(twins):
        yield (
            f"Of twins, which learn the gold answers alone, it {how.removesuffix(' to be kept')}"
            f" {_smallest_each(twins, 'twin')}."
        )
    looked_at = students[students.untouched < students.n].drop_duplicates("test_set")
    each = [f"{row.untouched:,} of {row.n:,} on {row.test_set}" for row in looked_at.itertuples()]
    if each:
        yield (
            "Claims rest on the questions that were not looked at while choices were made:"
            f" {', '.join(each)}."
        )


def _smallest_each(models: pd.DataFrame, role: str) -> str:
    return "; ".join(
        f"on {test} {_smallest(own, role)}" for test, own in models.groupby("test_set", sort=False)
    )


def _smallest(students: pd.DataFrame, role: str) -> str:
    """The smallest student, or twin, that keeps the margin, by its reductions."""
    ways = students.sort_values("reduction_total").groupby(students.student.map(way), sort=False)
    passed = pd.concat([_passed(own) for _, own in ways])
    if passed.empty:
        return f"by no {role}"
    one = passed.loc[passed.reduction_total.idxmax()]
    return f"down to {_fewer(one)}"


def judgement(students: pd.DataFrame, claims: pd.DataFrame) -> str:
    """What is claimed of students that were cut in one way, and of their twins, on untouched
    questions (`claims`); and where there are others, what is kept on all."""
    own, twins = (claims[claims.role == role] for role in ("student", "twin"))
    which = "the smallest that was asked" if len(students) > 1 else "the only one so far"
    questions = students.iloc[0]
    if own.empty:
        why = f"no claim, as all {questions.n:,} questions were looked at while choices were made"
        return f"{why}; {which} {_about(students.iloc[-1])}."
    said = f"{_claim(own)}; {which} {_about(own.iloc[-1])}."
    said += f" Of twins {_claim(twins, 'twin')}." if len(twins) else ""
    if questions.untouched == questions.n:
        return said
    largest = (
        f"the largest student {_about(questions)}"
        if len(students) > 1
        else f"it {_about(questions)}"
    )
    basis = (
        f"on the {questions.untouched:,} of {questions.n:,} questions that were not looked at while"
        " choices were made"
    )
    return f"{basis}, {said} On all questions {largest}."


def _claim(students: pd.DataFrame, role: str = "student") -> str:
    """Whether, and down to what size, students (or twins) are shown to keep the margin: from the
    largest on, up to the first that is not."""
    sure, passed = students[BOUNDS["retention_f1"][0]].notna().all(), _passed(students)
    aim = f"at least {comparison.MARGIN:.0f} % of F1 and EM kept"
    if not sure:
        found = (
            f"has it down to the one that {_about(passed.iloc[-1])}"
            if len(passed)
            else f"has it not even for the largest {role}"
        )
        return f"no claim without intervals; the estimate alone ({aim}) {found}"
    if passed.empty:
        largest = (
            f", which {_about(students.iloc[0])}" if len(students) > 1 or role == "twin" else ""
        )
        return f"non-inferiority ({aim}) is not shown, not even for the largest {role}{largest}"
    return f"non-inferiority ({aim}) is shown down to the {role} that {_about(passed.iloc[-1])}"


def _passed(students: pd.DataFrame) -> pd.DataFrame:
    """Those students, from the largest on, that keep the margin: by lower bounds, or by estimates
    where there are none."""
    sure = students[BOUNDS["retention_f1"][0]].notna().all()
    names = [
        BOUNDS[name][0] if sure else name for name in ("retention_f1", "retention_exact_match")
    ]
    return students[(students[names] >= comparison.MARGIN).all(axis=1).cummin()]


def _about(student: pd.Series) -> str:
    kept = (
        f"{tables.kept(student, name)} of {title}"
        for name, title in (("retention_f1", "F1"), ("retention_exact_match", "EM"))
    )
    return f"has {_fewer(student)} and keeps {' and '.join(kept)}"


def _fewer(student: pd.Series) -> str:
    return (
        f"{student.reduction_total:.1f} % fewer parameters ({student.reduction_nonembedding:.1f} %"
        " fewer non-embedding)"
    )
