"""Properties that hold whatever comes in: parsing, packing, scores, statistics.

Examples are drawn by Hypothesis, the same ones every time.
"""

import json
import re
import string
from collections import Counter
from itertools import pairwise
from pathlib import Path
from unicodedata import category

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from invented import resampled_means
from miniatures import unpack
from scipy import stats

from studylib.analysis import statistics
from studylib.core import labels, segmentation
from studylib.core.errors import LONGEST, StudyError
from studylib.data import packing, sources, squad
from studylib.data.prompts import Branch, Prompt
from studylib.data.squad import Question
from studylib.evaluation import metrics

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=8)
)
NAMES = st.sampled_from(
    [
        "data",
        "title",
        "paragraphs",
        "context",
        "qas",
        "id",
        "question",
        "answers",
        "text",
        "answer_start",
    ]
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
TEXTS = st.text(min_size=1, max_size=30).filter(str.strip)
LANGUAGES = sorted(segmentation.ARTICLES)


def stand(questions: list[Question]) -> bool:
    """Whether all answers are in their contexts."""
    return all(
        text.strip() and q.context.startswith(text, start)
        for q in questions
        for text, start in q.answers
    )


@st.composite
def nearly_sound(draw: st.DrawFn) -> object:
    """SQuAD's form, now and then with anything else in the place of something."""
    context = "Kamo lives in Tiru."

    def some(value: object) -> object:
        return draw(ANYTHING) if draw(st.sampled_from([False] * 30 + [True])) else value

    def answer() -> object:
        word, shift = (
            draw(st.sampled_from(["Kamo", "lives", "Tiru", "iru."])),
            draw(st.sampled_from([0] * 8 + [-1, 1, -5])),
        )
        return some({"text": some(word), "answer_start": some(context.index(word) + shift)})

    def question(number: int) -> object:
        return some(
            {
                "id": some(f"q{number}"),
                "question": some("Where?"),
                "answers": some([answer(), answer()]),
            }
        )

    paragraph = some({"context": some(context), "qas": some([question(1), question(2)])})
    return some({"data": some([some({"title": some("Kamo"), "paragraphs": some([paragraph])})])})


@given(
    content=nearly_sound() | ANYTHING, nearest=st.booleans(), language=st.sampled_from(["en", None])
)
@settings(max_examples=200)
def test_what_is_parsed_stands_at_its_offsets_and_all_else_is_refused(
    content: object, nearest: bool, language: str | None
):
    try:
        loaded = squad.parse(content, "mine.json", language, nearest=nearest)
    except StudyError as error:
        assert (
            "mine.json" in str(error)
            and str(error).isprintable()
            and len(str(error)) <= LONGEST + 3
        )
    else:
        assert (
            loaded.questions
            and stand(loaded.questions)
            and 0 <= loaded.shifted <= sum(len(q.answers) for q in loaded.questions)
        )
        assert len({q.id for q in loaded.questions}) == len(loaded.questions)


def test_the_nearly_sound_are_taken_and_refused():
    """Else the property above says nothing."""
    outcomes: Counter = Counter()

    @given(content=nearly_sound(), nearest=st.booleans())
    def parsed(content: dict, nearest: bool) -> None:
        try:
            outcomes["taken"] += (
                len(squad.parse(content, "mine.json", "en", nearest=nearest).questions) > 0
            )
        except StudyError:
            outcomes["refused"] += 1

    parsed()
    assert min(outcomes["taken"], outcomes["refused"]) >= 5, outcomes


@given(
    rows=st.lists(st.dictionaries(NAMES, ANYTHING, max_size=6) | ANYTHING, max_size=3),
    junk=st.binary(max_size=20) | st.none(),
)
def test_what_a_file_holds_is_taken_or_refused_by_its_name(
    rows: list, junk: bytes | None, tmp_path_factory: pytest.TempPathFactory
):
    path: Path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes("\n".join(map(json.dumps, rows)).encode() + (junk or b""))
    try:
        assert stand(squad.load({"source": f"path:{path}"}).questions)
    except StudyError as error:
        assert str(path) in str(error)


@given(
    texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS),
    spans=st.lists(st.tuples(st.integers(0, 29), st.integers(1, 5)), min_size=1),
)
def test_whatever_a_question_holds_is_read_as_it_was_written(
    texts: tuple, spans: list, tmp_path_factory: pytest.TempPathFactory
):
    identity, title, context, question = texts
    answers = [
        (context[start : start + length], start)
        for start, length in spans
        if context[start : start + length].strip()
    ]
    assume(answers)
    entries = [{"text": text, "answer_start": start} for text, start in answers]
    row = {
        "id": identity,
        "title": title,
        "context": context,
        "question": question,
        "answers": entries,
    }
    path: Path = tmp_path_factory.getbasetemp() / "one.jsonl"
    for ascii_only in (True, False):
        path.write_text(json.dumps(row, ensure_ascii=ascii_only), encoding="utf-8", newline="")
        assert squad.load({"source": f"path:{path}"}).questions == [
            Question(identity, title, context, question, tuple(answers))
        ]


@given(
    description=st.dictionaries(
        st.sampled_from(sorted(set().union(*sources.KEYS.values()))), ANYTHING
    )
    | ANYTHING
)
def test_any_description_of_a_data_set_is_taken_or_refused(description: object):
    try:
        assert sources.described(description)[0] in sources.KEYS
    except StudyError as error:
        assert (
            "data s" in str(error)
            or str(description["source"])[:100] in str(error)
            or not str(error).isascii()
        )


@given(quoted=st.text(st.characters(exclude_categories=()), max_size=3 * LONGEST))
def test_a_refusal_is_one_line_that_can_be_read(quoted: str):
    message = str(StudyError(f"mine.json: {quoted!s}: mend it."))
    assert (
        all(char.isprintable() or category(char) == "Zs" for char in message)
        and message.startswith("mine.json: ")
        and message.endswith(": mend it.")
    )
    assert len(message) <= 10 * LONGEST and (
        not quoted.isprintable() or len(message) <= LONGEST + 3
    )


TOKENS = st.lists(st.integers(0, 99), min_size=1, max_size=6)
ASKED = Question("q", "a", "context", "?", (("context", 0),))


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    branches = [Branch(ASKED, draw(TOKENS), draw(TOKENS)) for _ in range(draw(st.integers(1, 4)))]
    return Prompt(draw(TOKENS), branches)


@given(prompt=prompts())
def test_a_row_has_every_branch_once_and_each_as_if_it_were_alone(prompt: Prompt):
    row, alone = packing.pack(prompt), unpack(prompt)
    assert len(row.ids) == len(prompt.prefix) + sum(
        len(single.ids) - len(prompt.prefix) for single in alone
    )
    for number, single in enumerate(alone, start=1):
        mine = [place for place, branch in enumerate(row.branches) if branch in (0, number)]
        assert [row.ids[place] for place in mine] == single.ids
        assert (
            [row.positions[place] for place in mine]
            == single.positions
            == list(range(len(single.ids)))
        )
        learnt = {
            mine.index(at): target
            for at, target in zip(row.answers.at, row.answers.targets, strict=True)
            if at in mine[len(prompt.prefix) :]
        }
        assert len(prompt.branches[number - 1].given) == 0 or learnt == dict(
            zip(single.answers.at, single.answers.targets, strict=True)
        )
    assert row.answers.targets == [target for single in alone for target in single.answers.targets]
    assert Counter(row.all.targets) == Counter(prompt.prefix[1:]) + Counter(
        t for b in prompt.branches for t in b.given + b.target
    )


@given(several=st.lists(prompts(), min_size=1, max_size=3))
def test_a_branch_sees_the_prefix_and_itself_only(several: list[Prompt]):
    rows = [packing.pack(prompt) for prompt in several]
    batch = packing.collate(rows)
    assert batch.mask.shape == (len(rows), 1, batch.ids.shape[1], batch.ids.shape[1])
    for number, (prompt, row) in enumerate(zip(several, rows, strict=True)):
        seen, width = batch.mask[number, 0], len(row.ids)
        for query in range(width):
            allowed = {
                key for key in range(query + 1) if row.branches[key] in (0, row.branches[query])
            }
            assert set(seen[query].nonzero()[:, 0].tolist()) == allowed
        for single, branch in zip(unpack(prompt), range(1, len(prompt.branches) + 1), strict=True):
            mine = [place for place in range(width) if row.branches[place] in (0, branch)]
            assert torch.equal(seen[mine][:, mine], packing.collate([single]).mask[0, 0])
        assert (
            not seen[:width, width:].any() and seen.any(dim=1).all()
        )  # nobody sees padding but padding


@given(several=st.lists(prompts(), min_size=1, max_size=4))
def test_a_batch_holds_every_row_and_its_targets_where_they_were(several: list[Prompt]):
    rows = [packing.pack(prompt) for prompt in several]
    batch, flat = packing.collate(rows), 0
    assert batch.lengths == tuple(len(row.ids) for row in rows) and batch.real.sum() == sum(
        batch.lengths
    )
    for number, row in enumerate(rows):
        assert batch.ids[number, : len(row.ids)].tolist() == row.ids
        at = batch.answers.at[flat : flat + len(row.answers.at)] - number * batch.ids.shape[1]
        assert at.tolist() == row.answers.at
        flat += len(row.answers.at)
    assert flat == len(batch.answers.at) and batch.answers.targets.tolist() == [
        t for row in rows for t in row.answers.targets
    ]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    size=st.integers(1, 8),
    seed=st.integers(0, 2**32),
    window=st.integers(1, 4),
)
def test_an_epoch_has_each_row_once_and_leaves_out_less_than_a_batch(
    lengths: list[int], size: int, seed: int, window: int
):
    size, whole = min(size, len(lengths)), len(lengths) // min(size, len(lengths))
    batches = packing.schedule(lengths, size=size, steps=2 * whole, seed=seed, window=window)
    for epoch in (batches[:whole], batches[whole:]):
        seen = [index for batch in epoch for index in batch]
        assert (
            all(len(batch) == size for batch in epoch)
            and len(set(seen)) == len(seen) == whole * size > len(lengths) - size
        )
    assert (
        packing.schedule(lengths, size=size, steps=whole, seed=seed, window=window)
        == batches[:whole]
    )


def official(text: str) -> list[str]:
    """Rajpurkar et al.'s evaluate-v1.1.py, normalize_answer, written out."""
    bare = "".join(sign for sign in text.lower() if sign not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split()).split()


def official_f1(prediction: str, gold: str) -> float:
    """The same script's f1_score."""
    predicted, expected = official(prediction), official(gold)
    same = sum((Counter(predicted) & Counter(expected)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(expected)
    return 2 * precision * recall / (precision + recall)


WORDS = st.sampled_from(
    [
        "the",
        "The",
        "a",
        "an",
        "Kamo",
        "kamo",
        "Tiru",
        "the-Tiru",
        "U.S.",
        "1984",
        "año",
        "der",
        "\u200f",
        "北京",
        ",",
        "…",
    ]
)
ANSWERS = st.lists(WORDS, max_size=5).map(" ".join) | st.text(max_size=12)
GOLDS = st.lists(ANSWERS, min_size=1, max_size=3)


@given(prediction=ANSWERS, golds=GOLDS)
def test_squads_scores_are_those_of_the_official_script(prediction: str, golds: list[str]):
    assert metrics.exact_match(prediction, golds) == float(
        any(official(prediction) == official(gold) for gold in golds)
    )
    assert metrics.f1(prediction, golds) == pytest.approx(
        max(official_f1(prediction, gold) for gold in golds)
    )


@given(prediction=ANSWERS, golds=GOLDS, language=st.sampled_from(LANGUAGES))
def test_every_score_is_a_share_in_every_language(prediction: str, golds: list[str], language: str):
    scores = metrics.score(prediction, golds, language=language, rules="mlqa")
    assert set(scores) == {*labels.METRICS, *labels.MENDED} and all(
        0 <= value <= 1 for value in scores.values()
    )
    assert scores["exact_match"] in (0, 1) and scores["exact_match_mended"] in (0, 1)
    if scores["exact_match"] and segmentation.words(prediction, language=language, rules="mlqa"):
        assert scores["f1"] == 1
    more = metrics.score(prediction, [*golds, prediction], language=language, rules="mlqa")
    assert more["exact_match"] == 1 and all(more[name] >= scores[name] for name in scores)


@given(first=ANSWERS, second=ANSWERS, language=st.sampled_from(LANGUAGES))
def test_scores_of_two_answers_do_not_ask_which_of_them_is_gold(
    first: str, second: str, language: str
):
    ways = dict(language=language, rules="mlqa")
    for metric in (metrics.exact_match, metrics.f1, metrics.agreement):
        golds = (first, second) if metric is metrics.agreement else ([first], [second])
        assert metric(first, golds[1], **ways) == metric(second, golds[0], **ways)
    assert metrics.rouge_l(first, [second], language=language) == pytest.approx(
        metrics.rouge_l(second, [first], language=language)
    )
    if segmentation.tokens(first, language):
        assert metrics.rouge_l(first, [first], language=language) == metrics.f1(
            first, [first], **ways
        ) or not segmentation.words(first, **ways)


@given(
    words=st.lists(st.sampled_from(["Kamo", "Tiru", "1984", "Belu"]), min_size=1, max_size=4),
    golds=GOLDS,
    articles=st.lists(st.sampled_from(["the", "a", "an", "THE"]), max_size=3),
    marks=st.text(string.punctuation, max_size=3),
)
def test_case_punctuation_and_articles_change_no_score(
    words: list[str], golds: list[str], articles: list[str], marks: str
):
    plain, dressed = (
        " ".join(words),
        " ".join([*articles, *(f"{marks}{word.swapcase()}{marks}" for word in words), *articles]),
    )
    for metric in (metrics.exact_match, metrics.f1):
        assert metric(dressed, golds) == metric(plain, golds)


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(p_values=P_VALUES)
def test_holms_p_values_are_above_the_raw_ones_and_in_their_order(p_values: list[float]):
    corrected = statistics.holm(p_values)
    assert all(raw <= value <= 1 for raw, value in zip(p_values, corrected, strict=True))
    ranked = [value for _, value in sorted(zip(p_values, corrected, strict=True))]
    assert all(before <= after for before, after in pairwise(ranked))
    assert corrected[p_values.index(min(p_values))] == min(1.0, len(p_values) * min(p_values))


@given(p_values=P_VALUES)
def test_holms_p_values_are_those_of_his_closed_form(p_values: list[float]):
    """max over j ≤ i of (m − j + 1) p_(j), at most 1; his test rejects at a level just those that
    are below it."""
    order = np.argsort(p_values, kind="stable")
    steps = np.minimum(
        1,
        np.maximum.accumulate(
            (len(p_values) - np.arange(len(p_values))) * np.asarray(p_values)[order]
        ),
    )
    assert np.asarray(statistics.holm(p_values))[order] == pytest.approx(steps)


@st.composite
def clustered(draw: st.DrawFn, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Values and their clusters, of which there are some at least."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=least, max_size=6))
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = draw(
        st.lists(st.floats(-10, 10, width=16), min_size=len(clusters), max_size=len(clusters))
    )
    return np.array(values, dtype=float), clusters


def drawn(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(
    value=st.floats(-100, 100),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    seeds=st.integers(1, 3),
)
def test_the_bootstrap_of_a_constant_is_that_constant(value: float, sizes: list[int], seeds: int):
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    means = resampled_means(np.full((seeds, len(clusters)), value), clusters, drawn(0), 50)
    assert means == pytest.approx(np.full(50, value))


@given(both=clustered())
def test_the_bootstrap_stays_within_the_values_and_an_interval_in_its_order(both: tuple):
    values, clusters = both
    means = resampled_means(values[None], clusters, drawn(0), 200)
    assert (
        means.shape == (200,)
        and values.min() - 1e-9 <= means.min()
        and means.max() <= values.max() + 1e-9
    )
    wide, narrow = (statistics.interval(means, level) for level in (0.95, 0.5))
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


@given(centre=st.floats(-10, 10), spread=st.lists(st.floats(0.01, 5), min_size=3, max_size=10))
def test_the_interval_of_symmetric_draws_holds_their_middle(centre: float, spread: list[float]):
    low, high = statistics.interval(
        np.array([centre + sign * far for far in spread for sign in (-1, 1)])
    )
    assert low < centre < high and low + high == pytest.approx(2 * centre)


@given(both=clustered(), order=st.randoms(use_true_random=False), names=st.permutations(range(6)))
def test_what_clusters_are_called_and_in_which_order_they_come_changes_no_error(
    both: tuple, order: object, names: list[int]
):
    values, clusters = both
    mean, error = statistics.clustered_error(values, clusters)
    shuffled = list(range(len(values)))
    order.shuffle(shuffled)
    renamed = np.array([f"article {names[cluster]}" for cluster in clusters])
    assert statistics.clustered_error(values[shuffled], renamed[shuffled]) == pytest.approx(
        (mean, error)
    )
    assert mean == pytest.approx(values.mean()) and error >= 0


@given(values=st.lists(st.floats(-10, 10, width=16), min_size=2, max_size=12))
def test_the_error_of_clusters_of_one_is_the_ordinary_one(values: list[float]):
    mean, error = statistics.clustered_error(np.array(values), np.arange(len(values)))
    assert (mean, error) == pytest.approx((np.mean(values), stats.sem(values)))


@given(both=clustered(), times=st.integers(2, 4))
def test_the_error_of_copies_is_that_of_the_clusters_alone(both: tuple, times: int):
    """Saying everything several times tells nothing more."""
    values, clusters = both
    once = statistics.clustered_error(values, clusters)
    assert statistics.clustered_error(
        np.tile(values, times), np.tile(clusters, times)
    ) == pytest.approx(once, abs=1e-9)


@given(both=clustered(least=1), sign=st.sampled_from([1, -1]), scale=st.floats(0.1, 10))
def test_a_sign_flip_asks_neither_for_direction_nor_for_scale(both: tuple, sign: int, scale: float):
    values, clusters = both
    assume(abs(values.sum()) > 1e-3)
    p = statistics.sign_flip(values, clusters, drawn(0), 200)
    assert 1 / 201 <= p <= 1
    assert statistics.sign_flip(sign * 2.0 * values, clusters, drawn(0), 200) == p
    assert statistics.sign_flip(np.zeros(len(values)), clusters, drawn(0), 200) == 1
