"""dParallel: its entropy term by hand, what is masked, and answers of several tokens a step against
a loop without a cache."""

import math
from types import SimpleNamespace

import pytest
import torch
from miniatures import FAMILIES, built, model, packs, tokenizer
from short_training import VOCABULARY, teacher_of
from torch.distributions import Categorical

from studylib.data.packing import schedule
from studylib.data.targets import line
from studylib.evaluation import decoding, generate
from studylib.methods import stages
from studylib.methods.base import Sampler
from studylib.methods.divergences import forward_kl
from studylib.methods.dparallel import Dparallel, certainty, masked
from studylib.methods.objective import cross_entropy
from studylib.methods.views import Teacher
from studylib.models import loading
from studylib.training import loop
from studylib.training.config import Recipe

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.1, 0.0, 3.0]])
TARGETS = torch.tensor([0, 1, 2])  # the second is not the likeliest


def entropy(logits, temperature=1.0):
    """In nats, written out."""
    weights = [math.exp(float(value) / temperature) for value in logits]
    shares = [weight / sum(weights) for weight in weights]
    return -sum(share * math.log(share) for share in shares)


def test_certainty_is_the_softened_entropy_where_the_likeliest_token_is_right():
    values = certainty(LOGITS, TARGETS, 0.5)
    expected = [entropy(LOGITS[0], 0.5), 0.0, entropy(LOGITS[2], 0.5)]
    assert values.tolist() == pytest.approx(expected, rel=1e-5) and values[0] > 0.4 > values[2] > 0


def test_certainty_pulls_at_right_places_alone_and_towards_less_entropy():
    logits = LOGITS.clone().requires_grad_()
    certainty(logits, TARGETS, 0.5).sum().backward()
    assert torch.equal(logits.grad[1], torch.zeros(3))
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1] and logits.grad[2, 2] < 0


def test_the_loss_is_plain_distillation_and_certainty_each_per_token():
    method, teacher = Dparallel(weight=3.0), torch.randn(3, 3)
    views = SimpleNamespace(logits=LOGITS, targets=TARGETS), [SimpleNamespace(logits=teacher)]
    terms = method.loss(*views)
    torch.testing.assert_close(terms["forward_kl"], forward_kl(LOGITS, teacher))
    torch.testing.assert_close(terms["cross_entropy"], cross_entropy(LOGITS, TARGETS))
    torch.testing.assert_close(terms["certainty"], certainty(LOGITS, TARGETS, 0.5))
    assert method.weights == {"cross_entropy": 0.5, "certainty": 3.0}
    rows = packs()[:3]
    assert method.count("certainty", rows) == sum(len(row.answers.at) for row in rows)


def sampler(step=0):
    rows = packs()
    return Sampler(rows, schedule([len(r.ids) for r in rows], size=8, steps=6, seed=0), 3, step)


def test_the_ends_of_answers_are_masked_and_nothing_else():
    method, seen = Dparallel(), set()
    method.student(model("llama"), [])
    assert method.mask == VOCABULARY
    for step in range(6):
        batches = [method.batch(sampler(step), None) for _ in range(2)]
        assert [row.digest for row in batches[0]] == [row.digest for row in batches[1]]
        for row, before in zip(batches[0], sampler(step).next(), strict=True):
            assert row.answers == before.answers and row.positions == before.positions
            places, start = set(), 0
            for length in row.target_lengths:
                read = row.answers.at[start + 1 : start + length]
                start += length
                masks = [row.ids[place] == method.mask for place in read]
                assert masks == sorted(masks)
                seen.add((len(read), sum(masks)))
                places |= {place for place, mask in zip(read, masks, strict=True) if mask}
            pairs = zip(row.ids, before.ids, strict=True)
            changed = {place for place, (now, old) in enumerate(pairs) if now != old}
            assert changed == places
    lengths = {length for length, _ in seen}
    assert max(lengths) > 3
    for length in (number for number in lengths if 1 < number < 5):
        assert {masks for n, masks in seen if n == length} == set(range(length + 1))


def test_masks_hide_the_tokens_that_they_stand_for_from_the_student_alone():
    """Its logits at masked places are those of a row of masks; the teacher's are unchanged."""
    net, method = model("llama"), Dparallel()
    method.student(net, [])
    row = next(row for row in packs() if row.target_lengths[0] > 3)
    last = masked(row, method.mask, SimpleNamespace(integers=lambda low, high: low))
    teacher = teacher_of(method, model("llama", seed=1))
    student = loop.student_view(net, [last], VOCABULARY, False)
    assert torch.equal(teacher.logits([row], "answers"), teacher.logits([last], "answers"))
    first, start = row.answers.at[0], row.branches.count(0)
    (given, length), ids = (first + 1 - start, row.target_lengths[0]), last.ids
    assert ids[first + 1 : first + length] == [method.mask] * (length - 1)
    alone = ids[: start + given + length - 1]
    logits = net(input_ids=torch.tensor([alone])).logits[0, -length:, :VOCABULARY]
    torch.testing.assert_close(student.logits[:length], logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_the_mask_is_a_token_beside_the_others_that_survives_saving(tied, tmp_path):
    net = model("qwen2", tie_word_embeddings=tied)
    before, drawn = net.get_input_embeddings().weight.detach().clone(), torch.get_rng_state()
    method, second = Dparallel(block=3), Dparallel()
    method.student(net, [])
    second.student(net, [])
    after = net.get_input_embeddings().weight.detach()
    assert torch.equal(after[:-1], before) and len(after) == len(before) + 1
    torch.testing.assert_close(after[-1], before.mean(0))
    assert method.mask == second.mask == VOCABULARY
    assert torch.equal(torch.get_rng_state(), drawn), "nothing is drawn from the common numbers"
    assert (net.get_output_embeddings().weight is net.get_input_embeddings().weight) == tied
    loading.save(net, tokenizer(), tmp_path)
    loaded, _ = loading.load_folder(tmp_path)
    assert torch.equal(loaded.get_input_embeddings().weight, after)
    called = method.answer(loaded, "parallel", lambda model, **how: how)
    assert called == {"masks": [VOCABULARY] * 2, "entropy": 0.5}
    assert method.answer(loaded, "", lambda model, **how: how) == {}


def parallel(net, given, masks, limit, longest):
    """An answer's tokens and the steps that they took, each step a pass over the whole text."""
    tokens: list[int] = []
    steps = 0
    while True:
        width = min(masks, longest - len(tokens) - 1) if tokens else 0
        ids = torch.tensor([given + tokens + [VOCABULARY] * width])
        logits, steps = net(input_ids=ids).logits[0, -1 - width :, :VOCABULARY], steps + 1
        for number, row in enumerate(logits):
            if number and Categorical(logits=row).entropy() > limit:
                break
            tokens.append(int(row.argmax()))
            text = tokenizer().decode(tokens).lstrip()
            if tokens[-1] in tokenizer().all_special_ids or "\n" in text or len(tokens) == longest:
                return tokens, steps


def sharp(family):
    """A miniature with a mask token and a head that is certain of some tokens."""
    net = model(family, tie_word_embeddings=False)
    Dparallel().student(net, [])
    with torch.no_grad():
        net.get_output_embeddings().weight.mul_(5)
        net.get_output_embeddings().weight[tokenizer().eos_token_id] *= 1.5
    return net


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("limit", [0.0, 1.0, 99.0])
def test_answers_of_several_tokens_a_step_are_those_of_a_loop_without_a_cache(family, limit):
    """The contexts together, whose questions end at unlike times."""
    net, prompts = sharp(family), built("zero-shot", 2)
    answers = generate.answer(
        net, tokenizer(), prompts, batch=4, longest=9, masks=[VOCABULARY] * 3, entropy=limit
    )
    questions = [(prompt, branch) for prompt in prompts for branch in prompt.branches]
    for answer, (prompt, branch) in zip(answers, questions, strict=True):
        tokens, steps = parallel(net, [*prompt.prefix, *branch.given], 3, limit, 9)
        assert (answer.tokens, answer.steps) == (len(tokens), steps) or answer.margin < 1e-3
        fewest = 1 + math.ceil((len(tokens) - 1) / 4)
        assert fewest <= steps <= len(tokens)
        assert limit != 99 or steps == fewest
    if limit == 0:
        plain = generate.answer(net, tokenizer(), prompts, batch=4, longest=9)
        assert [a.text for a in plain] == [a.text for a in answers]
        assert all(a.steps == a.tokens for a in plain)
        for first, second in zip(plain, answers, strict=True):
            assert first.log_probability == pytest.approx(second.log_probability, abs=1e-3)
    else:
        assert sum(a.steps for a in answers) < 0.9 * sum(a.tokens for a in answers)


@torch.no_grad()
def test_no_place_is_read_after_the_longest_answer(monkeypatch):
    net, prompts, seen = sharp("llama"), built("zero-shot", 2), [0]
    forward = decoding._forward
    monkeypatch.setattr(
        decoding, "_forward", lambda *given: seen.append(int(given[3].max())) or forward(*given)
    )
    how = {"masks": [VOCABULARY] * 3, "entropy": 0.0}
    generate.answer(net, tokenizer(), prompts, longest=5, **how)
    ends = [len(p.prefix) + len(b.given) + 5 for p in prompts for b in p.branches]
    assert max(seen) == max(ends) - 2, "the last token is said, not read"


class Gold:
    """Stands for states of a teacher that knows the text to learn."""

    tokens = "answers"

    def __call__(self, pack):
        return 20.0 * torch.nn.functional.one_hot(torch.tensor(pack.answers.targets), VOCABULARY)


def test_a_trained_student_gives_the_same_answers_in_fewer_steps(tmp_path):
    net, prompts, rows = model("llama"), built()[-1:], packs()[-1:]
    loop.train(
        net,
        rows,
        stages=stages.parse([{"steps": 60, "method": "dparallel"}]),
        recipe=Recipe(batch_size=1, lr=1e-2, seed=0, micro_batch_size=0),
        vocabulary=VOCABULARY,
        work=tmp_path,
        teachers=[Teacher(lambda states: states, Gold())],
    )
    how = {"masks": [VOCABULARY] * 3, "entropy": 0.5}
    plain, several = (generate.answer(net, tokenizer(), prompts, **h) for h in ({}, how))
    golds = [line(branch.question.answers[0][0]) for branch in prompts[0].branches]
    assert [a.text for a in plain] == [a.text for a in several] == golds
    fewest = [1 + math.ceil((answer.tokens - 1) / 4) for answer in plain]
    assert [a.steps for a in several] == fewest and sum(fewest) < sum(a.steps for a in plain)
