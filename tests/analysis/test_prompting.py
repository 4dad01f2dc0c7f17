"""Ways of prompting, and the questions that gain by a demonstration."""

import numpy as np
import pandas as pd
import pytest
from invented import marked, rows

from studylib.analysis import conclusions, prompting, teacher_vs_student


def test_repeats_are_left_out_of_prompting_and_of_traits():
    scores = {"zero-shot": (0.4, 0.9), "one-shot": (0.6, 0.1)}
    traits = {"asks": "who", "answer_words": 1, "answer_place": 0.5}
    both = [
        marked(
            "student",
            *pair,
            column="repeat",
            value=True,
            depth=5,
            train_prompt=mode,
            eval_prompt=mode,
            **traits,
        )
        for mode, pair in scores.items()
    ]
    worth = prompting.prompting(pd.concat(both), list(scores), list(scores))
    assert worth.difference.tolist() == pytest.approx([20]) and worth.n.tolist() == [80]
    kinds = prompting.by_trait(pd.concat(both), list(scores))
    assert set(kinds.n) == {80} and kinds.difference.to_numpy() == pytest.approx(20)


def test_partial_rows_of_prompting_compare_nothing_with_itself():
    trained, asked = ["zero-shot", "one-shot"], ["zero-shot", "one-shot"]
    plain = pd.concat(
        [
            rows(role, 0.5, depth=5, eval_prompt=mode, articles=12)
            for role in ("teacher", "student")
            for mode in asked
        ]
    )
    ways = prompting.prompting(plain, trained, asked).ways.unique()
    assert list(ways) == ["trained zero-shot: asked one-shot, not zero-shot"]
    assert prompting.prompting(plain[plain.eval_prompt == "zero-shot"], trained, asked).empty
    assert prompting.by_trait(
        plain.assign(asks="who", answer_words=1, answer_place=0.5), trained
    ).empty
    assert teacher_vs_student.compare(plain[plain.role == "teacher"]).empty


def test_values_of_a_trait_with_too_few_questions_for_an_interval_are_left_out():
    modes = ["zero-shot", "one-shot"]
    each = [
        rows("student", f1, depth=5, eval_prompt=mode, articles=40).assign(train_prompt=mode)
        for mode, f1 in zip(modes, (0.5, 0.7), strict=True)
    ]
    both = pd.concat(each, ignore_index=True).assign(answer_words=1, answer_place=0.5)
    both["asks"] = np.where(both.question == "q0", "whose", "who")
    traits = prompting.by_trait(both, modes)
    assert set(traits.value) == {"who", "1 word", "second third"} and traits.low.notna().all()
    assert traits.difference.tolist() == pytest.approx(3 * [20.0])
    little = both[both.question.isin(["q0", "q1", "q2"])].assign(test_set="little")
    kinds = prompting.by_trait(pd.concat([both, little]), modes)
    assert {"whose", "who"} <= set(kinds.value[kinds.test_set == "little"]), (
        "what one test set has too little of another still shows"
    )


def test_rare_question_words_are_taken_together_and_only_english_ones_are_read():
    modes = ["zero-shot", "one-shot"]
    each = [
        rows("student", f1, depth=5, eval_prompt=mode, articles=60).assign(train_prompt=mode)
        for mode, f1 in zip(modes, (0.5, 0.7), strict=True)
    ]
    both = pd.concat(each, ignore_index=True).assign(answer_words=1, answer_place=0.5)
    number = both.question.str[1:].astype(int)
    both["asks"] = np.select([number < 60, number < 120], ["whose", "why"], "who")
    kinds = prompting.by_trait(both, modes)
    assert dict(kinds[kinds.trait == "asks"][["value", "n"]].to_numpy()) == {
        "other": 120,
        "who": 120,
    }
    assert set(prompting.by_trait(both.assign(language="de"), modes).trait) == {
        "answer",
        "answer in the",
    }


def test_a_kind_of_question_stands_apart_only_by_what_it_gains_beyond_the_others():
    modes = ["zero-shot", "one-shot"]
    each = [
        rows("student", 0.5, depth=5, eval_prompt=mode, articles=60).assign(train_prompt=mode)
        for mode in modes
    ]
    both = pd.concat(each, ignore_index=True).assign(answer_words=1, answer_place=0.5)
    number = both.question.str[1:].astype(int)
    both["asks"] = np.where(number < 120, "what", "who")
    rng = np.random.default_rng(2)
    gain = 0.2 + 0.1 * (both.asks == "what") + rng.normal(0, 0.05, 240)[number]
    both["f1"] += gain * (both.train_prompt == "one-shot")
    kinds = prompting.by_trait(both, modes).set_index("value")
    per_kind = 100 * gain[both.train_prompt == "one-shot"].groupby(both.asks).mean()
    assert (
        kinds.apart["what"]
        == pytest.approx(per_kind["what"] - per_kind["who"])
        == -kinds.apart["who"]
    )
    assert kinds.apart_low["what"] < 10 < kinds.apart_high["what"] < kinds.apart_low["what"] + 4
    assert np.isnan(kinds.apart["1 word"]), "there are no others"


def test_what_a_demonstration_is_worth_before_any_training_is_of_each_model_as_it_comes():
    asked = ["zero-shot", "one-shot"]
    blank = dict(teacher="", train_prompt="", role="base", init="pretrained")
    base = [
        rows("teacher", f1, eval_prompt=mode, articles=40).assign(student=student, **blank)
        for student, scores in (("", (0.1, 0.3)), ("f-small", (0.1, 0.9)))
        for mode, f1 in zip(asked, scores, strict=True)
    ]
    student = [
        rows("student", 0.5, depth=5, eval_prompt=mode, articles=40).assign(train_prompt=asked[0])
        for mode in asked
    ]
    table = prompting.prompting(pd.concat(base + student), asked, asked)
    answer = conclusions.prompting_answer(table, asked)
    assert (
        "Before any training, a demonstration is worth +20.0 points (1 of 1 significant) to the"
        " base model, +80.0 points (1 of 1 significant) to the small." in answer
    )
    worth = table[table.role == "base"]
    assert worth.contrast.tolist() == [prompting.UNTRAINED] * 2
    asking = "asked one-shot, not zero-shot"
    assert worth.ways.tolist() == [asking, f"small: {asking}"]
    assert worth.difference.tolist() == pytest.approx([20, 80]) and not worth.primary.any()
