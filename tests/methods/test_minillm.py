"""MiniLLM: its expected gradient is that of reverse KL between whole answers."""

import math
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from miniatures import model, packs
from short_training import VOCABULARY, asker, teacher_of

from studylib.methods.base import Sampler
from studylib.methods.minillm import Minillm, rewards_after
from studylib.methods.views import student_view
from studylib.training import loop

TOKENS, LONGEST = 3, 3  # token 0 ends an answer
ANSWERS = [
    answer
    for size in range(1, LONGEST + 1)
    for answer in product(range(TOKENS), repeat=size)
    if 0 not in answer[:-1] and (answer[-1] == 0 or size == LONGEST)
]
PREFIXES = sorted({answer[:t] for answer in ANSWERS for t in range(len(answer))})


def table(seed):
    """Next-token logits after each prefix: a model of all answers there are."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(PREFIXES), TOKENS, generator=random, dtype=torch.double)
    return logits.requires_grad_()


def view(logits, answers):
    """What a method sees of the model on some answers."""
    places = [(PREFIXES.index(a[:t]), a[t]) for a in answers for t in range(len(a))]
    at, tokens = (torch.tensor(each) for each in zip(*places, strict=True))
    return SimpleNamespace(
        logits=logits[at],
        log_probs=logits.log_softmax(-1)[at, tokens],
        lengths=torch.tensor([len(answer) for answer in answers]),
    )


def likelihoods(logits):
    return torch.stack([view(logits, [answer]).log_probs.sum() for answer in ANSWERS])


def expected_gradient(method, student, teacher):
    """Of the loss over all answers, each as likely as it is to the student."""
    chances = likelihoods(student).exp().detach()
    total = 0.0
    for chance, answer in zip(chances, ANSWERS, strict=True):
        terms = method.loss(view(student, [answer]), [view(teacher.detach(), [answer])])
        total += chance * sum(values.sum() for values in terms.values())
    return torch.autograd.grad(total, student)[0]


def test_without_length_normalisation_it_is_reverse_kl_of_whole_answers():
    student, teacher = table(0), table(1)
    log_q, log_p = likelihoods(student), likelihoods(teacher).detach()
    assert log_q.exp().sum().item() == pytest.approx(1)
    divergence = (log_q.exp() * (log_q - log_p)).sum()
    (expected,) = torch.autograd.grad(divergence, student)
    ours = expected_gradient(Minillm(length_normalised=False), student, teacher)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)
    normalised = expected_gradient(Minillm(), student, teacher)
    assert (normalised - expected).abs().max() > 0.01


def test_rewards_after_a_token_by_hand():
    rewards = torch.tensor([1.0, 2.0, 4.0, 9.0])
    assert rewards_after(rewards, False).tolist() == [15.0, 13.0, 9.0, 0.0]
    assert rewards_after(rewards, True).tolist() == [5.0, 6.5, 9.0, 0.0]
    assert rewards_after(rewards[:1], True).tolist() == [0.0]


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_by_loops_over_tokens_of_several_answers(normalised):
    student, teacher = table(2), table(3)
    answers = [ANSWERS[-1], ANSWERS[0], ANSWERS[-2]]
    later, single = [], []
    for answer in answers:
        q, p = (
            [logits[PREFIXES.index(answer[:t])].softmax(-1).tolist() for t in range(len(answer))]
            for logits in (student, teacher)
        )
        for t, token in enumerate(answer):
            rest = range(t + 1, len(answer))
            reward = sum(math.log(p[s][answer[s]] / q[s][answer[s]]) for s in rest)
            later.append(-reward / (max(1, len(rest)) if normalised else 1) * math.log(q[t][token]))
            single.append(sum(b * math.log(b / a) for a, b in zip(p[t], q[t], strict=True)))
    terms = Minillm(length_normalised=normalised).loss(
        view(student, answers), [view(teacher, answers)]
    )
    assert terms["later"].tolist() == pytest.approx(later, rel=1e-6)
    assert terms["single_step"].tolist() == pytest.approx(single, rel=1e-5)


def rows_of_step(method, student, step=0):
    sampler = Sampler(packs(), [[0, 6, 11]] * 4, seed=0, step=step)
    return method.batch(sampler, asker(method, student))


def test_every_row_holds_the_students_answers():
    rows = rows_of_step(Minillm(), model("llama"))
    assert {role for row in rows for role in row.roles} == {"sampled"}


def test_gradients_on_the_students_answers_do_not_depend_on_micro_batches():
    method, teacher, gradients = Minillm(), model("llama", seed=1), []
    rows = rows_of_step(method, model("llama"))
    for micro in (0, 1, 2):
        net = model("llama")
        loop.backward(net, rows, method, [teacher_of(method, teacher)], VOCABULARY, micro)
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-3, atol=1e-5)


def test_a_student_that_is_its_teacher_learns_nothing():
    method, net = Minillm(), model("llama")
    rows = rows_of_step(method, net)
    loop.backward(net, rows, method, [teacher_of(method, model("llama"))], VOCABULARY)
    assert all(p.grad.abs().max() < 1e-5 for p in net.parameters())


def test_answers_that_the_teacher_likes_more_than_expected_become_likelier():
    """A step against the gradient on a row lowers the reverse KL of its tokens."""
    method, net, teacher = Minillm(), model("llama"), teacher_of(Minillm(), model("llama", seed=1))
    rows = rows_of_step(method, net)
    before = loop.backward(net, rows, method, [teacher], VOCABULARY)["single_step"]
    with torch.no_grad():
        for weight in net.parameters():
            weight -= 1e-2 * weight.grad
        view_after = student_view(net, rows, VOCABULARY, False)
        assert view_after.logits.isfinite().all()
        after = loop.backward(net, rows, method, [teacher], VOCABULARY)["single_step"]
    assert after < before
