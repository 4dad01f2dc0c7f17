"""What a comparison says, in words: Markdown, computed from the numbers, a claim only where
interval and test allow one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from studylib.analysis import claims, comparison, rates, statistics, tables
from studylib.analysis.comparison import HEAD_STARTS
from studylib.core import sizes
from studylib.core.labels import RAW


@dataclass(frozen=True)
class Origin:
    """What numbers come from: the learning rates that were chosen (`rates`), what computing took,
    and which of them today's code would compute anew, both in words."""

    rates: pd.DataFrame
    computed: str = ""
    outdated: str = ""

    def marked(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Texts, each with what is outdated below it."""
        return {
            name: f"{text}\n{self.outdated}\n" if self.outdated else text
            for name, text in texts.items()
        }


def capacity_gap(
    kept: pd.DataFrame,
    gained: pd.DataFrame,
    costs: pd.DataFrame,
    law: pd.DataFrame,
    shipped: pd.DataFrame,
    asked: str,
    origin: Origin,
    claimed: pd.DataFrame | None = None,
) -> dict[str, str]:
    """What that notebook says in words, by name: `kept` is its comparison, `gained` its contrasts,
    `costs` what answers cost, `law` the best teachers of siblings, `shipped` the scores of models
    before any training, `origin` what its numbers come from, `claimed` the comparison on untouched
    questions (`comparison.on_untouched`)."""
    chosen = origin.rates
    texts = {"bases": tables.bases(shipped)} if len(shipped) else {}
    texts |= {
        "headline": tables.headline(kept),
        "table": tables.table(kept),
        "rates": rates.markdown(chosen),
    }
    texts |= {
        "contrasts": f"{tables.contrasts(gained)}{_besides(chosen)}",
        "answer": capacity_answer(kept, gained, costs, asked, claimed),
    }
    said = f"{summits(law, asked)}{conclusion(kept, gained, costs, asked, claimed)}"
    return origin.marked(texts | {"conclusion": f"{said}\n{_besides(chosen)}\n{origin.computed}\n"})


def _besides(chosen: pd.DataFrame) -> str:
    """What students and twins differ in besides the teacher, as a paragraph."""
    said = rates.differences(chosen)
    return f"\n{said}\n" if said else ""


def summits(law: pd.DataFrame, asked: str) -> str:
    """Under how large a teacher siblings do best (`comparison.law`), a line each."""
    here = law[law.asked == asked].itertuples()
    return "".join(
        f"- **{row.student}, {row.test_set}, law of capacity gap**: {_summit(row)}.\n"
        for row in here
    )


def teacher_choice(
    kept: pd.DataFrame, gained: pd.DataFrame, scores: pd.DataFrame, asked: str, origin: Origin
) -> dict[str, str]:
    """What that notebook says in words, by name."""
    chosen = origin.rates
    texts = {
        "table": tables.table(kept),
        "contrasts": f"{tables.contrasts(gained)}{_besides(chosen)}",
        "rates": rates.markdown(chosen),
    }
    texts |= {"answer": choice_answer(gained, scores, comparison.TUNED, asked)}
    said = choice_conclusion(gained, scores, comparison.TUNED, asked)
    return origin.marked(texts | {"conclusion": f"{said}\n{_besides(chosen)}\n{origin.computed}\n"})


def prompting_mode(
    kept: pd.DataFrame,
    worth: pd.DataFrame,
    traits: pd.DataFrame,
    trained: Sequence[str],
    origin: Origin,
) -> dict[str, str]:
    """What that notebook says in words, by name: `worth` is what ways of prompting are worth,
    `traits` the same by traits of questions."""
    texts = {
        "table": tables.table(kept),
        "comparisons": tables.prompting(worth),
        "answer": prompting_answer(worth, trained),
    }
    texts |= {"rates": rates.markdown(origin.rates)}
    texts |= {
        "conclusion": f"{prompting_conclusion(worth, traits, trained)}\n\n{origin.computed}\n"
    }
    return origin.marked(texts)


DECLARED = (
    "The declared comparison is of the questions that were not looked at while choices were made,"
    " the others are of all."
)


def _way(kept: pd.DataFrame, asked: str) -> str:
    """The way of asking to speak of: this one, or the first in which any model was asked."""
    return asked if kept.empty or asked in set(kept.asked) else kept.asked.iloc[0]


def capacity_answer(
    kept: pd.DataFrame,
    gained: pd.DataFrame,
    costs: pd.DataFrame,
    asked: str,
    claimed: pd.DataFrame | None = None,
) -> str:
    """How far a model can be compressed, in a few sentences a family: what is kept and how far that
    is from what the paper reports, what the teacher adds, and what an answer costs. Claims as in
    `conclusion`."""
    asked = _way(kept, asked)
    here, fresh = (
        claims.headline(kept, asked),
        claims.headline(claims.untouched(kept if claimed is None else claimed), asked),
    )
    added = gained[
        (gained.asked == asked)
        & gained.start.isin(HEAD_STARTS)
        & (gained.contrast == comparison.ADDED)
    ]
    said = []
    for family, models in here[here.role == "student"].groupby("family", sort=False):
        about = (
            models,
            fresh[fresh.family == family],
            added[added.family == family],
            costs[costs.family == family],
        )
        said.append(_of(here, family) + " ".join(_capacity(*about)))
    return _answered(said, kept, f"asked {asked}")


def _capacity(
    students: pd.DataFrame, fresh: pd.DataFrame, added: pd.DataFrame, costs: pd.DataFrame
) -> Iterator[str]:
    """That answer for one family, sentence by sentence."""
    yield from claims.sentences(students, fresh)
    first = students[students.test_set == students.test_set.iloc[0]]
    near = first.loc[(first.reduction_total - comparison.REPORTED).abs().idxmin()]
    begun = "cut from its teacher" if near.start == "tuned" else "likewise"
    yield (
        f"{comparison.PAPER} report over {comparison.MARGIN:.0f} % at up to {comparison.REPORTED} %"
        " fewer, of students that were pretrained"
    )
    yield (
        f"by themselves: here, {begun}, the student nearest to that has {near.reduction_total:.1f}"
        " % fewer"
    )
    whole = ", all questions" if near.untouched < near.n else ""
    yield f"and keeps {tables.kept(near, 'retention_f1')} of F1 on {near.test_set}{whole}."
    if len(added):
        yield (
            "Students that learn the teacher's distributions, too, differ from twins that learn"
            f" the gold answers alone by {_reach(added)}."
        )
    times = costs.time[(costs.role == "student") & costs.start.isin(HEAD_STARTS)]
    if len(times):
        yield f"A student's answer takes {_range(times)} % of the time of its teacher's."


def choice_answer(gained: pd.DataFrame, scores: pd.DataFrame, primary: str, asked: str) -> str:
    """Whom a student should learn from, in a few sentences a family."""
    if gained.empty:
        return _answered([], gained, asked)
    said, asked = [], asked if asked in set(gained.asked) else gained.asked.iloc[0]
    for family, group in gained[gained.asked == asked].groupby("family", sort=False):
        sentence = (
            f"Taught by the {primary} teacher and not on gold answers alone, a student scores"
            f" {_by_test(group[group.teacher == primary])}."
        )
        found = scores[(scores.family == family) & (scores.asked == asked)]
        for test, own in found.groupby("test_set", sort=False):
            sentence += f" On {test} {_schooled(own)}."
        said.append(f"{_of(gained, family)}{sentence}")
    return _answered(said, gained, f"asked {asked}")


def prompting_answer(worth: pd.DataFrame, trained: Sequence[str]) -> str:
    """What a demonstration is worth, in a few sentences a family."""
    said = []
    for family, group in worth[worth.role == "student"].groupby("family", sort=False):
        declared, asking = (
            group[group.contrast == name] for name in (comparison.WHOLE, comparison.ASKING)
        )
        sentence = (
            f"{comparison.PAPER} report gains by one-shot prompting. Here a student that is trained"
            f" and asked {trained[-1]}, not {trained[0]},"
        )
        sentence += f" scores {_by_test(declared)}."
        each = [
            f"to one {mode} {_reach(own)}"
            for mode, own in asking.groupby(asking.ways.str.partition(":")[0], sort=False)
        ]
        sentence += (
            f" A demonstration in asking alone, however it is chosen, is worth {', '.join(each)}."
            if each
            else ""
        )
        folded = group[group.contrast == comparison.FOLDING]
        sentence += (
            " Taught by a teacher that sees one, a student that does not scores"
            f" {_by_test(folded)}."
            if len(folded)
            else ""
        )
        said.append(f"{_of(worth, family)}{sentence}")
    return _answered(said, worth)


def _answered(said: Sequence[str], table: pd.DataFrame, *about: str) -> str:
    """An answer with what it rests on, or that there is none yet."""
    if not said:
        return "Nothing to compare was answered yet.\n"
    few, many = table.seeds.min(), table.seeds.max()
    seeds = f"{few if few == many else f'{few} to {many}'} seed{'s' if many > 1 else ''}"
    open_to = ": another training may differ" if few < statistics.SEEDS else ""
    rest = "" if "primary" not in table or not table.primary.any() else f" {DECLARED}"
    return (
        "\n\n".join(said)
        + f" (F1 in points of 100, {', '.join([*about, seeds])}{open_to}.{rest})\n"
    )


def _of(table: pd.DataFrame, family: str) -> str:
    """A family's name before what is said of it, where there are several."""
    name = comparison.titled(table, family)
    return f"{name}: " if name else ""


def _reach(differences: pd.DataFrame) -> str:
    """How far some differences reach, and how many of them are shown."""
    shown = np.array([_is_shown(row) for row in differences.itertuples()], bool)
    low, high = (
        tables.signed(value)
        for value in (differences.difference.min(), differences.difference.max())
    )
    reach = f"{low if low == high else f'{low} to {high}'} points"
    if differences.p_holm.isna().all():
        return reach
    least = (
        ""
        if shown.all()
        else f", the smallest we could have seen is {_range(differences.detectable[~shown])}"
    )
    return f"{reach} (shown in {shown.sum()} of {len(differences)} comparisons{least})"


def _by_test(differences: pd.DataFrame) -> str:
    """A difference on each test set, and whether it is shown."""
    if differences.empty:
        return "what is not answered yet"
    rows = differences.itertuples()
    judged = [
        (row, "" if np.isnan(row.p_holm) else ", shown" if _is_shown(row) else ", not shown")
        for row in rows
    ]
    each = [
        f"{tables.signed(row.difference)} points{tables.span(row.low, row.high)} on"
        f" {row.test_set}{shown}"
        for row, shown in judged
    ]
    return "; ".join(each)


def _schooled(scores: pd.DataFrame) -> str:
    """How far teachers lie apart and how far their students, all of them and those that were
    tuned."""
    tuned = _tuned(scores)
    groups = [("teachers", scores)] + (
        [("those that were tuned", tuned)] if 1 < len(tuned) < len(scores) else []
    )
    return " and ".join(
        f"{name} of {_range(own.teacher_f1)} F1 make students of {_range(own.student_f1)}"
        for name, own in groups
    )


def _tuned(scores: pd.DataFrame) -> pd.DataFrame:
    """Of schooling, the teachers that were tuned."""
    return scores[~scores.teacher.str.startswith(RAW)]


def choice_conclusion(gained: pd.DataFrame, scores: pd.DataFrame, primary: str, asked: str) -> str:
    """The primary contrast and the correlation in a few sentences a family and test set."""
    if gained.empty:
        return "Nothing to compare was answered yet."
    said, asked = [], asked if asked in set(gained.asked) else gained.asked.iloc[0]
    for (family, test), group in gained[gained.asked == asked].groupby(
        ["family", "test_set"], sort=False
    ):
        declared = group[group.teacher == primary]
        others = [row for row in group[group.teacher != primary].itertuples() if _is_shown(row)]
        sentence = (
            f"- **{comparison.titled(gained, family, test)}**: taught by the {primary} teacher"
            f" against nobody: {_declared(declared)}"
        )
        shown = (
            ": " + ", ".join(f"{row.teacher} ({tables.signed(row.difference)})" for row in others)
            if others
            else ""
        )
        if len(group) > len(declared):
            sentence += (
                f" Other teachers that made a difference which is shown: {len(others)} of"
                f" {len(group) - len(declared)}{shown}."
            )
        found = scores[
            (scores.family == family) & (scores.test_set == test) & (scores.asked == asked)
        ]
        if len(found) and not np.isnan(found.r.iloc[0]):
            one = found.iloc[0]
            sentence += (
                f" Better teachers, better students? Over these {len(found)} teachers, and for them"
                " only, the two scores correlate"
            )
            sentence += (
                f" by {one.r:.2f}{_correlation_span(one.r_low, one.r_high)}{_among_tuned(found)}."
            )
        said.append(sentence)
    return "\n".join(said) + "\n\n" + tables.notes(gained, gained)


def _among_tuned(scores: pd.DataFrame) -> str:
    """The correlation over those teachers alone that were tuned, where others are among them and
    they are not too few."""
    one = scores.iloc[0]
    if np.isnan(one.tuned_r):
        return ""
    return (
        f"; over the {len(_tuned(scores))} that were tuned by"
        f" {one.tuned_r:.2f}{_correlation_span(one.tuned_r_low, one.tuned_r_high)}"
    )


def _correlation_span(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" ({low:.2f} to {high:.2f})"


def conclusion(
    kept: pd.DataFrame,
    gained: pd.DataFrame,
    costs: pd.DataFrame,
    asked: str,
    claimed: pd.DataFrame | None = None,
) -> str:
    """What the tables say about the 90 % margin, about student and twin, and about what answers
    cost, in a few sentences a family, test set and way of cutting.

    The claim is one of non-inferiority: a student counts as keeping 90 % if the lower bounds of
    both F1 and EM kept do. It rests on untouched questions alone (`claimed`, or those lines of
    `kept` that are of none else). Without intervals nothing is claimed, and the estimates are named
    as such.
    """
    said, asked = [], _way(kept, asked)
    fresh = claims.headline(claims.untouched(kept if claimed is None else claimed), asked)
    for (family, test), group in kept[(kept.asked == asked) & kept.start.isin(HEAD_STARTS)].groupby(
        ["family", "test_set"], sort=False
    ):
        about = comparison.titled(kept, family, test)
        students = claims.headline(group, asked)[lambda rows: rows.role == "student"].sort_values(
            "reduction_total"
        )
        if students.empty:
            why = (
                f"the teacher is below {comparison.FLOOR:.0f} F1, so nothing is said about what is"
                " kept"
            )
            known = (group.role == "student").any()
            said.append(f"- **{about}**: {why if known else 'no student has answered yet'}.")
            continue
        ways = students.student.map(claims.way)
        untouched = fresh[(fresh.family == family) & (fresh.test_set == test)].sort_values(
            "reduction_total"
        )
        for way, own in students.groupby(ways, sort=False):
            alike = untouched[untouched.student.map(claims.way) == way]
            said.append(
                f"- **{about}{f', {way}' if ways.nunique() > 1 else ''}**:"
                f" {claims.judgement(own, alike)}"
            )
        here = gained[
            (gained.family == family)
            & (gained.test_set == test)
            & (gained.asked == asked)
            & gained.start.isin(HEAD_STARTS)
        ]
        said += [
            f"- **{about}, {name}**: {_listed(each)}"
            for name, each in here.groupby("contrast", sort=False)
        ]
    said += [
        f"- **{comparison.titled(costs, family, 'cost')}**: {_cost(own)}."
        for family, own in costs.groupby("family", sort=False)
    ]
    inherited = gained.contrast.isin(comparison.INHERITED.values()).any()
    start = (
        " A tuned start holds what the teacher was tuned on, too: longer training, not only what is"
        " inherited."
        if inherited
        else ""
    )
    return "\n".join(said) + "\n\n" + tables.notes(kept, gained) + start


def _summit(fitted: Any) -> str:
    """Under how large a teacher a student does best, beside what the law says."""
    reach = (
        f"{fitted.teachers} teachers of {tables.cell(fitted.least)} to {tables.cell(fitted.most)}"
        " times its parameters"
    )
    if np.isnan(fitted.ratio):
        return f"no size between was best among {reach}; {comparison.LAW} times was predicted"
    drawn = f", in {100 * fitted.within:.0f} % of the draws" if fitted.within < 1 else ""
    interval = tables.span(fitted.low, fitted.high)
    return (
        f"among {reach} it does best under one of {tables.cell(fitted.ratio)}"
        f" times{interval}{drawn}; {comparison.LAW} was predicted"
    )


def _cost(costs: pd.DataFrame) -> str:
    """What answers cost, of all students of tuned start, in percent of the teacher's."""
    students = costs[(costs.role == "student") & costs.start.isin(HEAD_STARTS)].drop_duplicates(
        "student"
    )
    shares = (100 * students[what] / students[f"teacher_{what}"] for what in ("memory", "disk"))
    each = [
        f"{sizes.named(one.student).title}:"
        f" {tables.cell(one.time)}{tables.span(one.time_low, one.time_high)} /"
        f" {tables.cell(memory)} / {tables.cell(disk)}"
        for one, memory, disk in zip(students.itertuples(), *shares, strict=True)
    ]
    how = (
        "time is measured in turns with the teacher's, in brackets the fastest and the slowest"
        " round"
    )
    return (
        f"time / memory / disk of an answer in percent of the teacher's: {'; '.join(each)}; {how}"
    )


def _listed(differences: pd.DataFrame) -> str:
    """Some contrasts in words, and which of them are shown; of one alone all there is to say."""
    other = {"rival": " by {0.objective}", "pupil": " under the {0.teacher}"}
    each = [
        (sizes.named(row.student).title + other.get(row.contrast.split()[0], "").format(row), row)
        for row in differences.itertuples()
    ]
    if len(each) == 1:
        return f"{each[0][0]}: {_judged(each[0][1])}"
    said = (
        "; ".join(
            f"{name}: {tables.signed(row.difference)}{tables.span(row.low, row.high)}"
            for name, row in each
        )
        + " points of F1."
    )
    return f"{said}{_seen(differences, [name for name, _ in each])}"


def _seen(differences: pd.DataFrame, names: Sequence[str]) -> str:
    """Which of some differences of these names are shown, and what could have been seen of the
    others; nothing where none was tested."""
    if differences.p_holm.isna().all():
        return ""
    shown = [_is_shown(row) for row in differences.itertuples()]
    unseen = differences.detectable[[not one for one in shown]].dropna()
    found = "; ".join(name for name, one in zip(names, shown, strict=True) if one)
    others = (
        f"; {'of the others ' if found else ''}the smallest we could have seen is {_range(unseen)}"
        if len(unseen)
        else ""
    )
    return f" Shown after Holm: {found or 'none'}{others}."


def _range(values: pd.Series) -> str:
    low, high = tables.cell(values.min()), tables.cell(values.max())
    return low if low == high else f"{low} to {high}"


def _is_shown(row: Any) -> bool:
    """Whether test, corrected for the number of them, and interval both show a difference."""
    return row.p_holm <= statistics.LEVEL and not row.low <= 0 <= row.high


def _declared(differences: pd.DataFrame) -> str:
    """The primary difference in words, if both sides of it are there."""
    return _judged(differences.iloc[0]) if len(differences) else "not answered yet."


def _judged(row: Any) -> str:
    """A difference in words: claimed where test and interval both do."""
    said = f"{tables.signed(row.difference)} points of F1{tables.span(row.low, row.high)}"
    if np.isnan(row.p_holm):
        return f"{said}."
    p = tables.probability(row.p_holm)
    said += f", p {p if '<' in p else f'= {p}'}{'' if row.primary else ' after Holm'}"
    if not _is_shown(row):
        return (
            f"{said}: no difference shown, the smallest we could have seen is {row.detectable:.1f}."
        )
    return f"{said}."


def prompting_conclusion(worth: pd.DataFrame, traits: pd.DataFrame, trained: Sequence[str]) -> str:
    """The declared comparison, the others kind by kind, and which questions gain, in a few
    sentences a family and test set."""
    if worth.empty:
        return "Nothing to compare was answered yet."
    said = []
    for (family, test), group in worth.groupby(["family", "test_set"], sort=False):
        about = comparison.titled(worth, family, test)
        is_declared = (group.role == "student") & (group.contrast == comparison.WHOLE)
        said.append(
            f"- **{about}**: student, {comparison.declared(trained)}:"
            f" {_declared(group[is_declared])}"
        )
        said += [
            f"- **{about}, {name}**: {_summed(each)}"
            for name, each in group[~is_declared].groupby("contrast", sort=False)
        ]
        own = traits[(traits.family == family) & (traits.test_set == test) & traits.low.notna()]
        if len(own):
            said.append(
                f"- **{about}, by question**: student, {comparison.declared(trained)}:"
                f" {_apart(own)}; described, not tested."
            )
    return "\n".join(said) + "\n\n" + tables.notes(worth, worth)


def _summed(differences: pd.DataFrame) -> str:
    """Several comparisons of one kind in words: how far they reach, and which are shown; of one
    alone all there is to say."""
    names = [f"{row.role}, {row.ways}" for row in differences.itertuples()]
    if len(names) == 1:
        return f"{names[0]}: {_judged(next(differences.itertuples()))}"
    reach = (
        f"{tables.signed(differences.difference.min())} to"
        f" {tables.signed(differences.difference.max())} points of F1 in {len(names)} comparisons."
    )
    return reach + _seen(
        differences,
        [
            f"{name} ({tables.signed(value)})"
            for name, value in zip(names, differences.difference, strict=True)
        ],
    )


def _apart(traits: pd.DataFrame) -> str:
    """The kinds of question that gain or lose otherwise than the other questions, by the interval
    of how far, in words."""
    known = traits[traits.apart.notna()]
    apart = [row for row in known.itertuples() if not row.apart_low <= 0 <= row.apart_high]
    each = [
        f"{row.trait} {row.value}:"
        f" {tables.signed(row.apart)}{tables.span(row.apart_low, row.apart_high)} beyond the others"
        for row in apart
    ]
    return (
        f"of {len(known)} kinds of question {len(apart)} differ from the"
        f" others{': ' if each else ''}{'; '.join(each)}"
    )
