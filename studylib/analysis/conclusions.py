"""What a comparison says, in words: Markdown, computed from the numbers, a claim only where
interval and test allow one. Of every experiment an answer in a few sentences, and a conclusion, a
few sentences a family and test set. The words are in `templates/`, this gives them what they speak
of."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from studylib.analysis import (
    claims,
    contrasts,
    formats,
    prompting,
    prose,
    retention,
    tables,
    teacher_vs_student,
)
from studylib.core import sizes
from studylib.core.labels import STUDENT

NO_PAIRS = pd.DataFrame(columns=[*contrasts.POOLED, *contrasts.DIFFERENCE, "primary"])


def capacity_answer(
    kept: pd.DataFrame,
    gained: pd.DataFrame,
    eval_prompt: str,
    claimed: pd.DataFrame | None = None,
    pooled: pd.DataFrame = NO_PAIRS,
) -> str:
    """How far a model can be compressed, in few sentences a family: which students and controls
    keep enough, beside what the paper reports, and what the teacher adds, by the primary contrast
    where one was declared. Shares are of untouched questions (see `capacity_conclusion`)."""
    eval_prompt = _way(kept, eval_prompt)
    students = _lines(claims.compressed(kept, eval_prompt), role="student")
    measured = set(students.family[students.retention_f1.notna()])
    fresh = claims.untouched(kept if claimed is None else claimed, eval_prompt)
    main = gained[gained.init.isin(retention.HEAD_INITS) & (gained.contrast == contrasts.ADDED)]
    added = contrasts.judged(_lines(main, eval_prompt=eval_prompt))
    loyal = added.assign(nearness=_nearness)[added.loyalty_low.notna()]
    primary = contrasts.judged(pooled[pooled.primary.eq(True)])
    families = [
        {
            "prefix": _prefix(students, family),
            "claims": claims.by_test(_lines(fresh, family=family)),
            "nearest": _nearest(_lines(fresh, family=family, role="student")),
            "added": _lines(added, family=family).to_dict("records"),
            "loyal": _lines(loyal, family=family).to_dict("records"),
            "primary": _lines(primary, family=family).to_dict("records"),
            "measured": family in measured,
        }
        for family in students.family.unique()
    ]
    return (
        prose.render(
            "capacity_answer",
            families=families,
            seeds=_seeds(kept),
            eval_prompt=eval_prompt,
            looked_at=bool((kept.untouched < kept.n).any()),
        )
        + "\n"
    )


def _nearest(students: pd.DataFrame) -> dict[str, Any]:
    """Of the first test set the student whose reduction is nearest to the paper's."""
    first = students[students.test_set == students.test_set.iloc[0]] if len(students) else students
    nearest = (first.reduction_total - retention.REPORTED).abs().nsmallest(1).index
    return next(iter(first.loc[nearest].to_dict("records")), {})


def capacity_conclusion(
    kept: pd.DataFrame,
    gained: pd.DataFrame,
    costs: pd.DataFrame,
    eval_prompt: str,
    claimed: pd.DataFrame | None = None,
    pooled: pd.DataFrame = NO_PAIRS,
) -> str:
    """What the tables say about the 90 % margin, about student and control (of all sizes `pooled`,
    too), and about costs, in a few sentences a family, test set and way of cutting.

    Claims (`claims`) rest on untouched questions alone (`claimed`, or those lines of `kept` that
    are of none else). Without intervals nothing is claimed, and the estimates are named as such.
    """
    eval_prompt = _way(kept, eval_prompt)
    fresh = claims.untouched(kept if claimed is None else claimed, eval_prompt)
    models = _lines(claims.headline(kept, eval_prompt), role="student"), fresh
    differences = contrasts.judged(
        _lines(gained[gained.init.isin(retention.HEAD_INITS)], eval_prompt=eval_prompt)
    ).assign(name=lambda table: list(_sized(table)), nearness=_nearness)
    main = _lines(kept[kept.init.isin(retention.HEAD_INITS)], eval_prompt=eval_prompt)
    together = contrasts.judged(pooled)
    cases = [
        {
            "title": formats.titled(kept, family, test),
            "answered": "student" in set(group.role),
            "ways": _ways(*(_lines(lines, family=family, test_set=test) for lines in models)),
            "contrasts": _grouped(_lines(differences, family=family, test_set=test), "contrast"),
            "pooled": _lines(together, family=family, test_set=test).to_dict("records"),
        }
        for (family, test), group in main.groupby(["family", "test_set"], sort=False)
    ]
    return prose.render(
        "capacity_conclusion",
        cases=cases,
        costs=_costs(costs),
        notes=tables.notes_on(kept, gained),
        inherited=gained.contrast.isin(contrasts.INHERITED.values()).any(),
    )


def _nearness(differences: pd.DataFrame) -> pd.Series:
    """Whether loyalty to the teacher is higher than the control's, in a word, by its interval;
    empty where there is none."""
    words = pd.Series("", differences.index).mask(differences.loyalty_low.notna(), "undecided")
    words = words.mask(differences.loyalty_low > 0, "higher")
    return words.mask(differences.loyalty_high < 0, "lower")


def _ways(students: pd.DataFrame, fresh: pd.DataFrame) -> list[dict[str, Any]]:
    """By the way in which they were cut: students, and what is claimed of them and of their
    controls on untouched questions (`fresh`)."""
    return [
        {"name": way, "models": models.sort_values("reduction_total").to_dict("records")}
        | {
            name: claims.claim(_lines(fresh, way=way, role=role))
            for name, role in (("student", "student"), ("control", "control"))
        }
        for way, models in students.groupby("way", sort=False)
    ]


def _costs(costs: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """What answers of the students that the claim is about cost, by family."""
    return {
        formats.titled(costs, family, "cost"): _shares(group)
        for family, group in costs.groupby("family", sort=False)
    }


def _shares(costs: pd.DataFrame) -> list[dict[str, Any]]:
    """The same of one family, in percent of the teacher's."""
    main = tables.main(costs)
    students = main[main.role == STUDENT].drop_duplicates("student")
    return students.assign(
        name=[sizes.named(student).title for student in students.student],
        memory_share=100 * students.memory / students.teacher_memory,
        disk_share=100 * students.disk / students.teacher_disk,
    ).to_dict("records")


def _sized(differences: pd.DataFrame) -> Iterator[str]:
    """What contrasts are of: a size, and the losses or the teacher where these are compared."""
    for row in differences.itertuples():
        other = {
            contrasts.OTHER_LOSSES: f" by {row.objective}",
            contrasts.SMALLER_TEACHER: f" under the {row.teacher}",
        }
        yield sizes.named(row.student).title + other.get(row.contrast, "")


def summits(law: pd.DataFrame, eval_prompt: str = "") -> str:
    """Under how large a teacher students do best (`teacher_sizes.law`), a line each, of those that
    were asked in a way, or in any."""
    lines = _lines(law, eval_prompt=eval_prompt) if eval_prompt else law
    text = prose.render("law", fitted=lines.to_dict("records"))
    return f"{text}\n" if text else ""


def choice_answer(gained: pd.DataFrame, primary: str, eval_prompt: str) -> str:
    """Whom a student should learn from, in two sentences a family."""
    eval_prompt = _way(gained, eval_prompt)
    differences = contrasts.judged(_lines(gained, eval_prompt=eval_prompt))
    families = [
        {
            "prefix": _prefix(gained, family),
            "declared": _lines(group, teacher=primary).to_dict("records"),
            "others": _grouped(group[group.teacher != primary], "teacher"),
        }
        for family, group in differences.groupby("family", sort=False)
    ]
    return (
        prose.render(
            "choice_answer",
            families=families,
            primary=primary,
            seeds=_seeds(gained),
            eval_prompt=eval_prompt,
        )
        + "\n"
    )


def choice_conclusion(
    gained: pd.DataFrame, scores: pd.DataFrame, primary: str, eval_prompt: str
) -> str:
    """The primary contrast and the correlation in a few sentences a family and test set."""
    eval_prompt = _way(gained, eval_prompt)
    differences = contrasts.judged(_lines(gained, eval_prompt=eval_prompt))
    cases = [
        {
            "title": formats.titled(gained, family, test),
            "declared": group[group.teacher == primary].to_dict("records"),
            "others": group[group.teacher != primary].to_dict("records"),
            "scores": _lines(
                _with_fine_tuned(scores), family=family, test_set=test, eval_prompt=eval_prompt
            ).to_dict("records"),
        }
        for (family, test), group in differences.groupby(["family", "test_set"], sort=False)
    ]
    return prose.render(
        "choice_conclusion", cases=cases, primary=primary, notes=tables.notes_on(gained, gained)
    )


def _with_fine_tuned(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of teachers and students with whether the teacher was fine-tuned."""
    return scores.assign(fine_tuned=scores.teacher.map(teacher_vs_student.is_fine_tuned))


def prompting_answer(worth: pd.DataFrame, train_prompts: Sequence[str]) -> str:
    """What a demonstration is worth, in three sentences a family."""
    students = contrasts.judged(_lines(worth, role="student"))
    untrained = contrasts.judged(_lines(worth, contrast=prompting.UNTRAINED))
    names = [ways.rpartition(": ")[0] or "base model" for ways in untrained.ways]
    untrained = untrained.assign(model=names)
    asked = (students.contrast == prompting.ASKING) & students.ways.str.startswith(
        f"trained {train_prompts[0]}:"
    )
    families = [
        {
            "prefix": _prefix(worth, family),
            "declared": _lines(group, contrast=prompting.WHOLE).to_dict("records"),
            "asking": _lines(students[asked], family=family).to_dict("records"),
            "untrained": _grouped(_lines(untrained, family=family), "model"),
        }
        for family, group in students.groupby("family", sort=False)
    ]
    return (
        prose.render(
            "prompting_answer",
            families=families,
            seeds=_seeds(worth),
            train_prompts=train_prompts,
        )
        + "\n"
    )


def prompting_conclusion(
    worth: pd.DataFrame, traits: pd.DataFrame, train_prompts: Sequence[str]
) -> str:
    """The declared comparison, the others kind by kind, and which questions gain, in a few
    sentences a family and test set."""
    labels = [f"{row.role}, {row.ways}" for row in worth.itertuples()]
    differences = contrasts.judged(worth).assign(
        label=labels,
        name=[
            f"{label} ({formats.signed(value)})"
            for label, value in zip(labels, worth.difference, strict=True)
        ],
        declared=(worth.role == "student") & (worth.contrast == prompting.WHOLE),
    )
    kinds = traits[traits.low.notna() & traits.apart.notna()].assign(
        differs=lambda table: (table.apart_low > 0) | (table.apart_high < 0)
    )
    cases = [
        {
            "title": formats.titled(worth, family, test),
            "declared": group[group.declared].to_dict("records"),
            "contrasts": _grouped(group[~group.declared], "contrast"),
            "kinds": _lines(kinds, family=family, test_set=test).to_dict("records"),
        }
        for (family, test), group in differences.groupby(["family", "test_set"], sort=False)
    ]
    return prose.render(
        "prompting_conclusion",
        cases=cases,
        train_prompts=train_prompts,
        notes=tables.notes_on(worth, worth),
    )


def _way(table: pd.DataFrame, eval_prompt: str) -> str:
    """The eval prompt to speak of: this one, or the first in which any model was asked."""
    return (
        eval_prompt
        if table.empty or eval_prompt in set(table.eval_prompt)
        else table.eval_prompt.iloc[0]
    )


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
    name = formats.titled(table, family)
    return f"{name}: " if name else ""


def _seeds(table: pd.DataFrame) -> tuple[int, int]:
    """The fewest and the most seeds of a line."""
    return table.seeds.min(), table.seeds.max()
