"""What a comparison says, in words: Markdown, computed from the numbers, a claim only where
interval and test allow one. The words are in `templates/`, this gives them what they speak of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from studylib.analysis import (
    claims,
    contrasts,
    formats,
    prompting,
    prose,
    rates,
    retention,
    tables,
    terms,
)
from studylib.core import sizes
from studylib.core.labels import RAW, TUNED


@dataclass(frozen=True)
class Origin:
    """What numbers come from: the learning rates that were chosen (`rates`), what computing took,
    and which of them today's code would compute anew, both in words."""

    rates: pd.DataFrame
    computed: str = ""
    outdated: str = ""

    def marked(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Texts, each with what is outdated below it."""
        note = f"\n{self.outdated}\n" if self.outdated else ""
        return {name: f"{text}{note}" for name, text in texts.items()}


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
    questions (`retention.on_untouched`)."""
    results = f"{summits(law, asked)}{conclusion(kept, gained, costs, asked, claimed)}"
    besides = rates.differences(origin.rates)
    texts = {"bases": tables.bases(shipped)} if len(shipped) else {}
    texts |= {
        "headline": tables.headline(kept),
        "table": tables.table(kept),
        "rates": rates.markdown(origin.rates),
        "contrasts": _paragraphs(tables.contrasts(gained), besides),
        "answer": capacity_answer(kept, gained, costs, asked, claimed),
        "conclusion": _paragraphs(results, besides, origin.computed),
    }
    return origin.marked(texts)


def teacher_choice(
    kept: pd.DataFrame, gained: pd.DataFrame, scores: pd.DataFrame, asked: str, origin: Origin
) -> dict[str, str]:
    """What that notebook says in words, by name."""
    results = choice_conclusion(gained, scores, TUNED, asked)
    besides = rates.differences(origin.rates)
    texts = {
        "table": tables.table(kept),
        "contrasts": _paragraphs(tables.contrasts(gained), besides),
        "rates": rates.markdown(origin.rates),
        "answer": choice_answer(gained, scores, TUNED, asked),
        "conclusion": _paragraphs(results, besides, origin.computed),
    }
    return origin.marked(texts)


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
        "rates": rates.markdown(origin.rates),
        "conclusion": _paragraphs(prompting_conclusion(worth, traits, trained), origin.computed),
    }
    return origin.marked(texts)


def _paragraphs(*texts: str) -> str:
    """Those texts that there are, a blank line between them."""
    return "\n\n".join(text.strip() for text in texts if text) + "\n"


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
    fresh = claims.headline(claims.untouched(kept if claimed is None else claimed), asked)
    students = _lines(claims.headline(kept, asked), role="student")
    main = gained[gained.start.isin(retention.HEAD_STARTS)]
    added = contrasts.judged(_lines(main, asked=asked, contrast=contrasts.ADDED))
    answered = costs[(costs.role == "student") & costs.start.isin(retention.HEAD_STARTS)]
    families = [
        {
            "prefix": _prefix(students, family),
            "students": claims.by_test(_lines(fresh, family=family), "student"),
            "controls": claims.by_test(_lines(fresh, family=family), "twin"),
            "added": _lines(added, family=family).to_dict("records"),
            "times": list(_lines(answered, family=family).time),
        }
        | _questions(models)
        for family, models in students.groupby("family", sort=False)
    ]
    return (
        prose.render("capacity_answer", families=families, seeds=_seeds(kept), asked=asked) + "\n"
    )


def _questions(students: pd.DataFrame) -> dict[str, Any]:
    """Of the first test set the student that is nearest to the paper's reduction; and the test sets
    of which questions were looked at while choices were made."""
    first = _lines(students, test_set=students.test_set.iloc[0])
    nearest = (first.reduction_total - retention.REPORTED).abs().argmin()
    looked_at = students[students.untouched < students.n].drop_duplicates("test_set")
    return {"nearest": first.iloc[nearest].to_dict(), "looked_at": looked_at.to_dict("records")}


def conclusion(
    kept: pd.DataFrame,
    gained: pd.DataFrame,
    costs: pd.DataFrame,
    asked: str,
    claimed: pd.DataFrame | None = None,
) -> str:
    """What the tables say about the 90 % margin, about student and control, and about what answers
    cost, in a few sentences a family, test set and way of cutting.

    Claims (`claims`) rest on untouched questions alone (`claimed`, or those lines of `kept` that
    are of none else). Without intervals nothing is claimed, and the estimates are named as such.
    """
    asked = _way(kept, asked)
    fresh = claims.headline(claims.untouched(kept if claimed is None else claimed), asked)
    models = _lines(claims.headline(kept, asked), role="student"), fresh
    differences = contrasts.judged(
        _lines(gained[gained.start.isin(retention.HEAD_STARTS)], asked=asked)
    )
    differences = differences.assign(name=list(_sized(differences)))
    main = _lines(kept[kept.start.isin(retention.HEAD_STARTS)], asked=asked)
    cases = [
        {
            "title": terms.titled(kept, family, test),
            "answered": "student" in set(group.role),
            "ways": _ways(*(_lines(lines, family=family, test_set=test) for lines in models)),
            "contrasts": _grouped(_lines(differences, family=family, test_set=test), "contrast"),
        }
        for (family, test), group in main.groupby(["family", "test_set"], sort=False)
    ]
    return prose.render(
        "capacity_conclusion",
        cases=cases,
        costs={
            terms.titled(costs, family, "cost"): _costs(group)
            for family, group in costs.groupby("family", sort=False)
        },
        notes=tables.notes_on(kept, gained),
        inherited=gained.contrast.isin(contrasts.INHERITED.values()).any(),
    )


def _ways(students: pd.DataFrame, fresh: pd.DataFrame) -> list[dict[str, Any]]:
    """By the way in which they were cut: students, and what is claimed of them and of their
    controls on untouched questions (`fresh`)."""
    return [
        {"name": way, "models": models.sort_values("reduction_total").to_dict("records")}
        | {
            name: claims.claim(_lines(fresh, way=way, role=role))
            for name, role in (("student", "student"), ("control", "twin"))
        }
        for way, models in students.groupby("way", sort=False)
    ]


def _costs(costs: pd.DataFrame) -> list[dict[str, Any]]:
    """What answers of students cost, in percent of the teacher's."""
    main = (costs.role == "student") & costs.start.isin(retention.HEAD_STARTS)
    students = costs[main].drop_duplicates("student")
    shares = {
        f"{name}_share": 100 * students[name] / students[f"teacher_{name}"]
        for name in ("memory", "disk")
    }
    names = [sizes.named(student).title for student in students.student]
    return students.assign(name=names, **shares).to_dict("records")


def _sized(differences: pd.DataFrame) -> Iterator[str]:
    """What contrasts are of: a size, and the losses or the teacher where these are compared."""
    for row in differences.itertuples():
        other = {"rival": f" by {row.objective}", "pupil": f" under the {terms.term(row.teacher)}"}
        yield sizes.named(row.student).title + other.get(row.contrast.split()[0], "")


def summits(law: pd.DataFrame, asked: str) -> str:
    """Under how large a teacher siblings do best (`teacher_sizes.law`), a line each."""
    text = prose.render("law", fitted=_lines(law, asked=asked).to_dict("records"))
    return f"{text}\n" if text else ""


def choice_answer(gained: pd.DataFrame, scores: pd.DataFrame, primary: str, asked: str) -> str:
    """Whom a student should learn from, in a few sentences a family."""
    asked = _way(gained, asked)
    differences = contrasts.judged(_lines(gained, asked=asked))
    families = [
        {
            "prefix": _prefix(gained, family),
            "declared": _lines(group, teacher=primary).to_dict("records"),
            "scores": _grouped(_lines(_tuned(scores), family=family, asked=asked), "test_set"),
        }
        for family, group in differences.groupby("family", sort=False)
    ]
    scope = {"seeds": _seeds(gained), "asked": asked, "declared": gained.primary.any()}
    return prose.render("choice_answer", families=families, primary=primary, **scope) + "\n"


def choice_conclusion(gained: pd.DataFrame, scores: pd.DataFrame, primary: str, asked: str) -> str:
    """The primary contrast and the correlation in a few sentences a family and test set."""
    asked = _way(gained, asked)
    differences = contrasts.judged(_lines(gained, asked=asked))
    cases = [
        {
            "title": terms.titled(gained, family, test),
            "declared": group[group.teacher == primary].to_dict("records"),
            "others": group[group.teacher != primary].to_dict("records"),
            "scores": _lines(_tuned(scores), family=family, test_set=test, asked=asked).to_dict(
                "records"
            ),
        }
        for (family, test), group in differences.groupby(["family", "test_set"], sort=False)
    ]
    notes = tables.notes_on(gained, gained)
    return prose.render("choice_conclusion", cases=cases, primary=primary, notes=notes)


def _tuned(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of teachers and students with whether the teacher was fine-tuned."""
    return scores.assign(tuned=[not name.startswith(RAW) for name in scores.teacher])


def prompting_answer(worth: pd.DataFrame, trained: Sequence[str]) -> str:
    """What a demonstration is worth, in a few sentences a family."""
    students = contrasts.judged(_lines(worth, role="student"))
    students = students.assign(mode=[ways.partition(":")[0] for ways in students.ways])
    families = [
        {
            "prefix": _prefix(worth, family),
            "declared": _lines(group, contrast=prompting.WHOLE).to_dict("records"),
            "asking": _grouped(_lines(group, contrast=prompting.ASKING), "mode"),
            "distilled": _lines(group, contrast=prompting.FOLDING).to_dict("records"),
        }
        for family, group in students.groupby("family", sort=False)
    ]
    scope = {"seeds": _seeds(worth), "trained": trained, "declared": worth.primary.any()}
    return prose.render("prompting_answer", families=families, **scope) + "\n"


def prompting_conclusion(worth: pd.DataFrame, traits: pd.DataFrame, trained: Sequence[str]) -> str:
    """The declared comparison, the others kind by kind, and which questions gain, in a few
    sentences a family and test set."""
    labels = [f"{row.role}, {row.ways}" for row in terms.standard(worth).itertuples()]
    signed = worth.difference.map(formats.signed)
    names = [f"{label} ({value})" for label, value in zip(labels, signed, strict=True)]
    whole = (worth.role == "student") & (worth.contrast == prompting.WHOLE)
    differences = contrasts.judged(worth).assign(label=labels, name=names, declared=whole)
    kinds = traits[traits.low.notna() & traits.apart.notna()]
    kinds = kinds.assign(differs=(kinds.apart_low > 0) | (kinds.apart_high < 0))
    cases = [
        {
            "title": terms.titled(worth, family, test),
            "declared": group[group.declared].to_dict("records"),
            "contrasts": _grouped(group[~group.declared], "contrast"),
            "kinds": _lines(kinds, family=family, test_set=test).to_dict("records"),
        }
        for (family, test), group in differences.groupby(["family", "test_set"], sort=False)
    ]
    notes = tables.notes_on(worth, worth)
    return prose.render("prompting_conclusion", cases=cases, trained=trained, notes=notes)


def _way(table: pd.DataFrame, asked: str) -> str:
    """The way of asking to speak of: this one, or the first in which any model was asked."""
    return asked if table.empty or asked in set(table.asked) else table.asked.iloc[0]


def _lines(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    """The lines of a table that have these values."""
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def _grouped(table: pd.DataFrame, name: str) -> dict[str, list[dict[str, Any]]]:
    """The lines of a table by what they have in a column, in their order."""
    return {key: group.to_dict("records") for key, group in table.groupby(name, sort=False)}


def _prefix(table: pd.DataFrame, family: str) -> str:
    """A family's name before what is said of it, where there are several."""
    name = terms.titled(table, family)
    return f"{name}: " if name else ""


def _seeds(table: pd.DataFrame) -> tuple[int, int]:
    """The fewest and the most seeds of a line."""
    return table.seeds.min(), table.seeds.max()
