"""Every table and conclusion in words, from a comparison: Markdown, computed from the numbers, a claim only where interval and test
allow one."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from studylib import comparison, cutting, scoring, statistics
from studylib.comparison import BOUNDS, SPREAD
from studylib.progress import spoken

IDENTITY = {
    "family": "family",
    "size": "size",
    "role": "role",
    "start": "start",
    "teacher": "taught by",
    "objective": "objective",
    "asked": "asked",
    "test_set": "test set",
}
IDENTITY |= {"language": "language", "trained": "trained", "seeds": "seeds", "steps": "steps", "n": "questions", "articles": "articles"}
MEASURES = {"reduction_total": "fewer parameters, %", "reduction_nonembedding": "fewer non-embedding, %"}
MEASURES |= {"exact_match": "EM", "f1": "F1", "rouge_l": "ROUGE-L", "retention_f1": "F1 kept, %", "retention_exact_match": "EM kept, %"}
MEASURES |= {"agreement": "agrees with teacher, %", "loyalty": "probability loyalty, %", "calibration_error": "calibration error, %"}
HEADLINE = ("reduction_total", "reduction_nonembedding", "retention_f1", "retention_exact_match", *scoring.METRICS)
LEVEL = 0.05  # of the tests
SEEN = f"The smallest that could have been seen is found in four cases of five by a test at {100 * LEVEL:.0f} %, before correction."
MARGIN = 90.0  # percent of its teacher's score that a student must keep


def capacity_gap(kept: pd.DataFrame, gained: pd.DataFrame, asked: str, made: pd.DataFrame) -> dict[str, str]:
    """What that notebook says in words, by name: `kept` is its comparison, `gained` its contrasts, `made` the runs behind them."""
    texts = {"headline": headline(kept), "table": table(kept), "contrasts": contrasts(gained)}
    return texts | {"conclusion": f"{conclusion(kept, gained, asked)}\n\n{computed(made)}\n"}


def teacher_choice(kept: pd.DataFrame, gained: pd.DataFrame, scores: pd.DataFrame, asked: str, made: pd.DataFrame) -> dict[str, str]:
    """What that notebook says in words, by name."""
    texts = {"table": table(kept), "contrasts": contrasts(gained)}
    return texts | {"conclusion": f"{choice_conclusion(gained, scores, comparison.TUNED, asked)}\n\n{computed(made)}\n"}


def prompting_mode(
    kept: pd.DataFrame, worth: pd.DataFrame, traits: pd.DataFrame, trained: Sequence[str], made: pd.DataFrame
) -> dict[str, str]:
    """What that notebook says in words, by name: `worth` is what ways of prompting are worth, `traits` the same by traits of questions."""
    texts = {"table": table(kept), "comparisons": prompting(worth)}
    return texts | {"conclusion": f"{prompting_conclusion(worth, traits, trained)}\n\n{computed(made)}\n"}


def headline(kept: pd.DataFrame) -> str:
    """What is most asked for of a comparison, in Markdown: teachers, students and twins of tuned start."""
    main = (kept.role == "teacher") | (kept.role.isin(("student", "twin")) & (kept.start == "tuned"))
    return table(kept[main], ("family", "size", "role", "asked", "test_set", "seeds"), HEADLINE)


def table(kept: pd.DataFrame, named: Sequence[str] = tuple(IDENTITY), measured: Sequence[str] = tuple(MEASURES)) -> str:
    """The comparison in Markdown: of what identifies and measures models, what is `named` and `measured`; what is the same in every line
    is said once, below it."""
    uncut = kept.role == "teacher"
    shown = kept.assign(size=_sizes(kept.student).mask(uncut, "uncut"), teacher=kept.teacher.mask(uncut, "–"))
    same = [f"{title} {_cell(shown[name].iloc[0])}" for name, title in IDENTITY.items() if shown[name].nunique() == 1]
    columns = {name: title for name, title in IDENTITY.items() if name in named and shown[name].nunique() > 1}
    columns |= {name: MEASURES[name] for name in measured}
    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[_bounded(row, name) for name in columns] for row in shown.to_dict("records")]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    against = " What is kept is of the teacher's score when it is asked in the same way." if kept.asked.nunique() > 1 else ""
    spread = " After ±: standard deviation over seeds." if kept.seeds.max() > 1 else ""
    return f"{drawn}\n\nIn every line: {', '.join(same)}. {intervals(kept)}{spread}{against}\n"


def intervals(table: pd.DataFrame) -> str:
    """What the intervals of a comparison or of contrasts are, and why there are none where there are none, in a few sentences."""
    few = table[[not statistics.enough(row.n, row.articles) for row in table.itertuples()]]
    said = [
        f"No intervals on {row.test_set}: {row.n} questions of {row.articles} articles are too few (at least {statistics.QUESTIONS} of {statistics.ARTICLES})."
        for row in few.drop_duplicates("test_set").itertuples()
    ]
    if len(few) < len(table):
        seeds = table.seeds.min()
        drawn = "seeds and then articles" if seeds >= statistics.SEEDS else "articles"
        conditional = "" if seeds >= statistics.SEEDS else f"; with fewer than {statistics.SEEDS} seeds they hold for these seeds only"
        said.append(f"In brackets: 95 % intervals, {drawn} drawn with replacement {statistics.REPEATS:,} times{conditional}.")
    return " ".join(said)


def _notes(table: pd.DataFrame, differences: pd.DataFrame) -> str:
    """What the intervals of a table are, and what could have been seen of differences."""
    return intervals(table) + (f" {SEEN}" if differences.detectable.notna().any() else "")


def _bounded(row: dict, name: str) -> str:
    spread = f" ± {row[SPREAD[name]]:.1f}" if name in SPREAD and not np.isnan(row[SPREAD[name]]) else ""
    return _cell(row[name]) + spread + (_span(*(row[bound] for bound in BOUNDS[name])) if name in BOUNDS else "")


def _span(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" ({low:.1f} to {high:.1f})"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # no -0.0


def _probability(p: float) -> str:
    return "–" if np.isnan(p) else "< 0.001" if p < 0.0005 else f"{p:.3f}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.1f}"
    return str(value)


def contrasts(table: pd.DataFrame) -> str:
    """What models of one size differ by (`comparison.contrasts`), in Markdown."""
    same = [name for name in ("family", "contrast", "teacher", "objective") if table[name].nunique() < 2]
    named = ("family", "contrast", "start", "asked", "test_set", "size", "teacher", "objective")
    columns = {name: IDENTITY.get(name, name) for name in named if name not in same}
    difference = table.contrast.iloc[0] if "contrast" in same and len(table) else "difference"
    return _tested(table.assign(size=_sizes(table.student)), columns, f"{difference}, F1")


def _sizes(students: pd.Series) -> pd.Series:
    """What students of a family are called: their sizes."""
    return students.map(cutting.written)


def prompting(table: pd.DataFrame) -> str:
    """What ways of prompting are worth (`comparison.prompting`), in Markdown."""
    columns = {"family": "family"} if table.family.nunique() > 1 else {}
    columns |= {"role": "role", "test_set": "test set", "ways": "ways"}
    return _tested(table, columns, "difference, F1")


def _tested(table: pd.DataFrame, columns: Mapping[str, str], difference: str) -> str:
    """Differences with their tests, and what these are corrected for."""
    if table.empty:
        return "Nothing is compared: no two models here differ in this alone.\n"
    titles = [*columns.values(), difference, "p", "p, Holm", "detectable"]
    lines = [titles, ["---"] * len(titles)]
    for row in table.to_dict("records"):
        tests = [_probability(row[name]) for name in ("p", "p_holm")]
        tests[1] = "primary" if row["primary"] else tests[1]
        found = f"{_signed(row['difference'])}{_span(row['low'], row['high'])}"
        lines.append([*(str(row[name]) for name in columns), found, *tests, _cell(row["detectable"])])
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    declared = "Primary is what was declared beforehand; the other" if table.primary.any() else "All"
    return f"{drawn}\n\n{declared} lines are secondary and corrected by Holm's method over all of them. {_notes(table, table)}\n"


def choice_conclusion(gained: pd.DataFrame, scores: pd.DataFrame, primary: str, asked: str) -> str:
    """The primary contrast and the correlation in a few sentences a family and test set."""
    if gained.empty:
        return "Nothing to compare was answered yet."
    said, asked = [], asked if asked in set(gained.asked) else gained.asked.iloc[0]
    for (family, test), group in gained[gained.asked == asked].groupby(["family", "test_set"], sort=False):
        declared = group[group.teacher == primary]
        others = [row for row in group[group.teacher != primary].itertuples() if _is_shown(row)]
        sentence = f"- **{comparison.titled(gained, family, test)}**: taught by the {primary} teacher against nobody: {_declared(declared)}"
        shown = ": " + ", ".join(f"{row.teacher} ({_signed(row.difference)})" for row in others) if others else ""
        if len(group) > len(declared):
            sentence += f" Other teachers that made a difference which is shown: {len(others)} of {len(group) - len(declared)}{shown}."
        found = scores[(scores.family == family) & (scores.test_set == test) & (scores.asked == asked)]
        if len(found) and not np.isnan(found.r.iloc[0]):
            one = found.iloc[0]
            spread = "" if np.isnan(one.r_low) else f" ({one.r_low:.2f} to {one.r_high:.2f})"
            sentence += f" Better teachers, better students? Over these {len(found)} teachers, and for them only, the two scores correlate"
            sentence += f" by {one.r:.2f}{spread}."
        said.append(sentence)
    return "\n".join(said) + "\n\n" + _notes(gained, gained)


def conclusion(kept: pd.DataFrame, gained: pd.DataFrame, asked: str) -> str:
    """What the tables say about the 90 % margin, and about student and twin, in a few sentences a family, test set and way of cutting.

    The claim is one of non-inferiority: a student counts as keeping 90 % if the lower bounds of both F1 and EM kept do.
    Without intervals nothing is claimed, and the estimates are named as such.
    """
    said, asked = [], asked if asked in set(kept.asked) else kept.asked.iloc[0]
    for (family, test), group in kept[(kept.asked == asked) & (kept.start == "tuned")].groupby(["family", "test_set"], sort=False):
        students = group[group.role == "student"].dropna(subset="retention_f1").sort_values("reduction_total")
        about = comparison.titled(kept, family, test)
        if students.empty:
            why = f"the teacher is below {comparison.FLOOR:.0f} F1, so nothing is said about what is kept"
            known = (group.role == "student").any()
            said.append(f"- **{about}**: {why if known else 'no student has answered yet'}.")
            continue
        ways = students.student.map(lambda name: cutting.named(name).way)
        for way, own in students.groupby(ways, sort=False):
            which = "the smallest of all" if len(own) > 1 else "the only one so far"
            said.append(f"- **{about}{f', {way}' if ways.nunique() > 1 else ''}**: {_claim(own)}; {which} {_about(own.iloc[-1])}.")
        here = gained[(gained.family == family) & (gained.test_set == test) & (gained.asked == asked) & (gained.start == "tuned")]
        said += [f"- **{about}, {name}**: {_listed(each)}" for name, each in here.groupby("contrast", sort=False)]
    return "\n".join(said) + "\n\n" + _notes(kept, gained)


def _claim(students: pd.DataFrame) -> str:
    """Whether, and down to what size, students are shown to keep the margin: from the largest on, up to the first that is not."""
    sure = students[BOUNDS["retention_f1"][0]].notna().all()
    names = [BOUNDS[name][0] if sure else name for name in ("retention_f1", "retention_exact_match")]
    passed = students[(students[names] >= MARGIN).all(axis=1).cummin()]
    aim = f"at least {MARGIN:.0f} % of F1 and EM kept"
    if not sure:
        found = f"has it down to the one that {_about(passed.iloc[-1])}" if len(passed) else "has it not even for the largest student"
        return f"no claim without intervals; the estimate alone ({aim}) {found}"
    if passed.empty:
        return f"non-inferiority ({aim}) is not shown, not even for the largest student"
    return f"non-inferiority ({aim}) is shown down to the student that {_about(passed.iloc[-1])}"


def _about(student: pd.Series) -> str:
    kept = [
        f"{_cell(student[name])} %{_span(*student[list(BOUNDS[name])])} of {title}"
        for name, title in (("retention_f1", "F1"), ("retention_exact_match", "EM"))
    ]
    fewer = f"{student.reduction_total:.1f} % fewer parameters ({student.reduction_nonembedding:.1f} % fewer non-embedding)"
    return f"has {fewer} and keeps {' and '.join(kept)}"


def _listed(differences: pd.DataFrame) -> str:
    """Some contrasts in words, and which of them are shown; of one alone all there is to say."""
    other = {"rival": " by {0.objective}", "pupil": " under the {0.teacher}"}
    each = [
        (cutting.named(row.student).title + other.get(row.contrast.split()[0], "").format(row), row) for row in differences.itertuples()
    ]
    if len(each) == 1:
        return f"{each[0][0]}: {_judged(each[0][1])}"
    said = "; ".join(f"{name}: {_signed(row.difference)}{_span(row.low, row.high)}" for name, row in each) + " points of F1."
    return f"{said}{_seen(differences, [name for name, _ in each])}"


def _seen(differences: pd.DataFrame, names: Sequence[str]) -> str:
    """Which of some differences of these names are shown, and what could have been seen of the others; nothing where none was tested."""
    if differences.p_holm.isna().all():
        return ""
    shown = [_is_shown(row) for row in differences.itertuples()]
    unseen = differences.detectable[[not one for one in shown]].dropna()
    found = "; ".join(name for name, one in zip(names, shown, strict=True) if one)
    others = f"; {'of the others ' if found else ''}the smallest we could have seen is {_range(unseen)}" if len(unseen) else ""
    return f" Shown after Holm: {found or 'none'}{others}."


def _range(values: pd.Series) -> str:
    low, high = _cell(values.min()), _cell(values.max())
    return low if low == high else f"{low} to {high}"


def _is_shown(row: tuple) -> bool:
    """Whether test, corrected for the number of them, and interval both show a difference."""
    return row.p_holm <= LEVEL and not row.low <= 0 <= row.high


def _declared(differences: pd.DataFrame) -> str:
    """The primary difference in words, if both sides of it are there."""
    return _judged(differences.iloc[0]) if len(differences) else "not answered yet."


def _judged(row: tuple) -> str:
    """A difference in words: claimed where test and interval both do."""
    said = f"{_signed(row.difference)} points of F1{_span(row.low, row.high)}"
    if np.isnan(row.p_holm):
        return f"{said}."
    p = _probability(row.p_holm)
    said += f", p {p if '<' in p else f'= {p}'}{'' if row.primary else ' after Holm'}"
    if not _is_shown(row):
        return f"{said}: no difference shown, the smallest we could have seen is {row.detectable:.1f}."
    return f"{said}."


def prompting_conclusion(worth: pd.DataFrame, traits: pd.DataFrame, trained: Sequence[str]) -> str:
    """The declared comparison, the others kind by kind, and which questions gain, in a few sentences a family and test set."""
    if worth.empty:
        return "Nothing to compare was answered yet."
    said = []
    for (family, test), group in worth.groupby(["family", "test_set"], sort=False):
        about = comparison.titled(worth, family, test)
        is_declared = (group.role == "student") & (group.contrast == comparison.WHOLE)
        said.append(f"- **{about}**: student, {comparison.declared(trained)}: {_declared(group[is_declared])}")
        said += [f"- **{about}, {name}**: {_summed(each)}" for name, each in group[~is_declared].groupby("contrast", sort=False)]
        own = traits[(traits.family == family) & (traits.test_set == test) & traits.low.notna()]
        if len(own):
            said.append(f"- **{about}, by question**: student, {comparison.declared(trained)}: {_apart(own)}; described, not tested.")
    return "\n".join(said) + "\n\n" + _notes(worth, worth)


def _summed(differences: pd.DataFrame) -> str:
    """Several comparisons of one kind in words: how far they reach, and which are shown; of one alone all there is to say."""
    names = [f"{row.role}, {row.ways}" for row in differences.itertuples()]
    if len(names) == 1:
        return f"{names[0]}: {_judged(next(differences.itertuples()))}"
    reach = f"{_signed(differences.difference.min())} to {_signed(differences.difference.max())} points of F1 in {len(names)} comparisons."
    return reach + _seen(differences, [f"{name} ({_signed(value)})" for name, value in zip(names, differences.difference, strict=True)])


def _apart(traits: pd.DataFrame) -> str:
    """The kinds of question whose interval leaves out 0, in words."""
    apart = [row for row in traits.itertuples() if not row.low <= 0 <= row.high]
    found = "; ".join(f"{row.trait} {row.value}: {_signed(row.difference)}{_span(row.low, row.high)}" for row in apart)
    return f"of {len(traits)} kinds the interval leaves out 0 for {f'{len(apart)}: {found}' if found else 'none'}"


def computed(made: pd.DataFrame) -> str:
    """What computing the runs (`study.origins`) took, in a sentence; nothing where that is not known."""
    if made.empty:
        return ""
    machines = sorted({f"{one.system} {one.processor}, {one.threads:.0f} threads, torch {one.torch}" for one in made.itertuples()})
    sentence = (
        f"{len(made)} runs, those that other experiments need, too, among them, took {spoken(made.seconds.sum())} ({'; '.join(machines)})"
    )
    students = made.seconds[made.kind == "student"]
    return sentence + (f"; training a student took up to {spoken(students.max())}." if len(students) else ".")
