"""Mixtures: what a YAML may say, what they are called, TAID's t, projections."""

import inspect
import math
import re

import pytest
import torch
import yaml

from studylib.core.errors import StudyError
from studylib.core.project import root
from studylib.methods import divergences, features, objectives
from studylib.methods.objectives import Term

torch.manual_seed(0)
STUDENT, TEACHER = torch.randn(7, 11), torch.randn(7, 11)


def one(losses, steps=1):
    return objectives.parse([{"steps": steps, "losses": losses}])


def test_cross_entropy_is_minus_the_log_probability():
    targets = torch.arange(7)
    expected = -STUDENT.log_softmax(-1)[torch.arange(7), targets]
    torch.testing.assert_close(objectives.cross_entropy(STUDENT, targets), expected)
    assert objectives.cross_entropy(STUDENT.bfloat16(), targets).dtype == torch.float32


@pytest.mark.parametrize("name", objectives.LOSSES)
def test_every_loss_can_be_named_and_says_where_it_is_from(name):
    (stage,) = one({name: 1})
    assert stage.terms == (Term(name, 1.0, "all" if name in objectives.FEATURES else "answers"),)
    assert stage.uses_teacher == (name != "cross_entropy") and stage.beside == (
        name in objectives.FEATURES
    )
    assert name == "cross_entropy" or re.search(
        r"20\d\d|arXiv", inspect.getdoc(objectives.LOSSES[name])
    )


def test_the_readme_lists_every_loss_with_its_options():
    readme = (root() / "studylib" / "methods" / "README.md").read_text(encoding="utf-8")
    lines = [line.split("|") for line in readme.splitlines() if line.startswith("| `")]
    listed = {
        name: re.findall(r"`(\w+)`", parts[3])
        for parts in lines
        if len(parts) == 5
        for name in re.findall(r"`(\w+)`", parts[1])
    }
    for name in objectives.LOSSES:
        assert set(objectives._options(name)) <= set(listed[name]), name
    example = yaml.safe_load(readme.split("```yaml\n")[1].split("```")[0])
    assert objectives.parse(example["stages"]) == objectives.parse(
        yaml.safe_load(_example())["stages"]
    )


def _example() -> str:
    return "stages:" + inspect.getdoc(objectives).split("stages:")[1].split("\n\n")[0]


def test_the_modules_example_is_what_it_says():
    first, second = objectives.parse(yaml.safe_load(_example())["stages"])
    assert (first.steps, first.terms) == (40, (Term("hidden_mse", 1.0, "all"),))
    assert second.terms[2] == Term("jsd", 0.5, "all", {"beta": 0.1})
    assert second.title == "forward_kl + 0.5 cross_entropy + 0.5 jsd(beta=0.1, all tokens)"
    assert (
        objectives.title([first, second])
        == f"hidden_mse (40 steps), then {second.title} (60 steps)"
    )
    assert objectives.title([second]) == second.title and objectives.steps([first, second]) == 100


@pytest.mark.parametrize(
    ("stages", "word"),
    [
        ([], "must be a list"),
        ({"steps": 3, "losses": {"forward_kl": 1}}, "must be a list"),
        ("forward_kl", "must be a list"),
        ([{"losses": {"forward_kl": 1}}], "must name steps and losses"),
        ([{"steps": 1, "losses": {"forward_kl": 1}, "rate": 1}], "must name steps and losses"),
        ([{"steps": 1, "losses": ["forward_kl"]}], "must name steps and losses"),
        ([{"steps": 0, "losses": {"forward_kl": 1}}], "steps must be a whole number"),
        (
            [{"steps": True, "losses": {"forward_kl": 1}}],
            "steps must be a whole number of at least 1, not True",
        ),
        (
            [{"steps": 2.0, "losses": {"forward_kl": 1}}],
            "steps must be a whole number of at least 1, not 2.0",
        ),
        (["forward_kl"], "'forward_kl' must name steps and losses"),
        ([{"steps": 1}], "must name steps and losses"),
        (7, "must be a list .*, not 7"),
        ([{"steps": 1, "losses": {}}], "at least one loss"),
    ],
)
def test_what_is_no_list_of_stages_is_refused(stages, word):
    with pytest.raises(StudyError, match=word):
        objectives.parse(stages)


@pytest.mark.parametrize(
    ("losses", "word"),
    [
        ({"kl": 1.0}, "'kl' is unknown: Known are cross_entropy, forward_kl, "),
        ({7: 1.0}, "7 is unknown: Known are"),
        ({"foward_kl": 1.0}, r"'foward_kl' is unknown: did you mean forward_kl\? Known are"),
        ({"forward_kl": 0}, "weight of forward_kl must be a positive number"),
        ({"forward_kl": math.inf}, "weight of forward_kl must be a positive number"),
        ({"forward_kl": True}, "weight of forward_kl"),
        ({"forward_kl": "1"}, "weight of forward_kl"),
        ({"forward_kl": None}, "weight of forward_kl"),
        (
            {"jsd": {"gamma": 0.1}},
            "no option 'gamma': it knows weight, tokens, beta, scaled, temperature",
        ),
        ({"jsd": {"beta": 1.5}}, "beta of jsd must be a number from 0 to 1, not 1.5"),
        ({"jsd": {"scaled": 1}}, "scaled of jsd must be true or false, not 1"),
        ({"jsd": {"temperature": 0}}, "temperature of jsd must be a positive number, not 0"),
        ({"top_k_kl": {"k": 2.5}}, "k of top_k_kl must be a whole number of at least 1, not 2.5"),
        ({"top_k_kl": {"k": 0}}, "k of top_k_kl must be a whole number"),
        (
            {"hidden_mse": {"tokens": "some"}},
            "tokens of hidden_mse must be answers or all, not 'some'",
        ),
        ({"taid": {"start": -0.1}}, "start of taid"),
        ({"taid": {"start": 0.5, "end": 0.4}}, "start of taid must not be above its end"),
        ({"taid": {"end": 0}}, "end of taid must be a number from 0 to 1 other than 0"),
        (
            {"skewed_forward_kl": {"skew": 1}},
            "skew of skewed_forward_kl must be a number from 0 to 1 other than 1",
        ),
        ({"top_p_kl": {"mass": 0}}, "mass of top_p_kl must be a number from 0 to 1 other than 0"),
        ({"jsd": {"beta": True}}, "beta of jsd must be a number from 0 to 1, not True"),
        ({"jsd": {"beta": "0.5"}}, "beta of jsd must be a number from 0 to 1, not '0.5'"),
        ({"top_k_kl": {"k": True}}, "k of top_k_kl must be a whole number of at least 1, not True"),
        ({"jsd": {"temperature": -1}}, "temperature of jsd must be a positive number"),
    ],
)
def test_what_is_no_loss_is_refused(losses, word):
    with pytest.raises(StudyError, match=word):
        one(losses)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jsd", {"beta": 0}),
        ("jsd", {"beta": 1, "scaled": True}),
        ("jsd", {"temperature": 0.5}),
        ("jsd", {"temperature": 4}),
        ("top_k_kl", {"k": 1}),
        ("top_p_kl", {"mass": 1}),
        ("skewed_forward_kl", {"skew": 0}),
        ("taid", {"start": 0, "end": 1}),
        ("taid", {"start": 0.5, "end": 0.5}),
        ("taid", {"end": 0.4}),
    ],
)
def test_the_ends_of_what_an_option_may_be_are_taken(name, options):
    (stage,) = one({name: options})
    assert stage.terms == (Term(name, 1.0, "answers", options),)


def test_options_reach_the_loss():
    mixture = objectives.Mixture(one({"jsd": {"beta": 0.2}}))
    found = mixture.on_logits(0, mixture.stages[0].terms[0], STUDENT, TEACHER, torch.arange(7))
    torch.testing.assert_close(found, divergences.jsd(STUDENT, TEACHER, beta=0.2), rtol=0, atol=0)


def test_a_step_finds_its_stage():
    mixture = objectives.Mixture(one({"forward_kl": 1}, 2) + one({"jsd": 1}, 4))
    assert [mixture.at(step) for step in range(6)] == [
        (0, 0.0),
        (0, 0.5),
        (1, 0.0),
        (1, 0.25),
        (1, 0.5),
        (1, 0.75),
    ]
    with pytest.raises(IndexError):
        mixture.at(6)


@pytest.mark.parametrize(
    ("stages", "tokens"),
    [
        ([{"cross_entropy": {"tokens": "all"}}], None),
        ([{"forward_kl": 1}], "answers"),
        ([{"forward_kl": 1, "jsd": {"tokens": "all"}}], "all"),
        ([{"forward_kl": 1, "hidden_mse": 1}], None),
        (
            [
                {"forward_kl": {"tokens": "all"}, "hidden_mse": 1},
                {"taid": 1, "cross_entropy": {"tokens": "all"}},
            ],
            "answers",
        ),
    ],
)
def test_states_are_stored_for_stages_that_compare_logits_alone(stages, tokens):
    assert objectives.stored([stage for losses in stages for stage in one(losses)]) == tokens


@pytest.mark.parametrize(
    ("losses", "everywhere"),
    [
        ({"forward_kl": 1, "cross_entropy": 1}, False),
        ({"forward_kl": 1, "cross_entropy": {"tokens": "all"}}, True),
        ({"hidden_mse": 1, "forward_kl": 1}, False),  # hidden states of all tokens are no logits
        ({"hidden_mse": {"tokens": "answers"}, "jsd": {"tokens": "all"}}, True),
    ],
)
def test_logits_of_all_tokens_are_looked_at_where_a_loss_on_logits_says_so(losses, everywhere):
    assert objectives.logits_everywhere(one({"cross_entropy": 1}) + one(losses)) == everywhere


def test_learning_from_text_is_cross_entropy_alone():
    assert objectives.parse(objectives.gold(7)) == one({"cross_entropy": 1}, 7)


def test_shortened_stages_keep_their_shares():
    stages = one({"forward_kl": 1}, 2) + one({"jsd": 1}, 4)
    for count, expected in ((1, [1, 1]), (3, [1, 2]), (6, [2, 4]), (9, [2, 4])):
        assert [stage.steps for stage in objectives.shortened(stages, count)] == expected


def taught(steps, micro, positions=6, of=None, **options):
    """t after every step of a TAID whose loss is given by random logits, a step in `micro` parts;
    `steps` are the first of `of`."""
    mixture, seen = objectives.Mixture(one({"taid": options or 1}, of or steps)), []
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        logits = torch.randn(2, positions, 11, generator=generator)
        for part in logits.chunk(micro, 1):
            mixture.on_logits(0, mixture.stages[0].terms[0], part[0], part[1], None)
        mixture.advance(step)
        seen.append(mixture.stateful["0-taid"].t.item())
    return seen


@pytest.mark.parametrize(("positions", "of"), [(6, 5), (6, 1000), (1, 1000)])
def test_taids_t_follows_the_official_rule(positions, of):
    """Written out: after the first step the linear rise, as in a short stage, or the nudge by the
    falling soft cross-entropy if that is more, as in a long one."""
    options = {"start": 0.2, "end": 0.9, "alpha": 0.5, "beta": 0.6}
    generator, t, last, momentum, expected = torch.Generator().manual_seed(1), 0.2, None, 0.0, []
    for step in range(5):
        student, teacher = torch.randn(2, positions, 11, generator=generator)
        target = ((1 - t) * student + t * teacher).softmax(-1)
        loss = -(target * student.log_softmax(-1)).sum(-1).mean().item()
        if last is not None:
            momentum = 0.6 * momentum + 0.4 * (last - loss) / (last + 1e-15)
            t = min(0.9, max(0.2 + 0.7 * step / of, t + 0.5 / (1 + math.exp(-momentum)) * (1 - t)))
        last = loss
        expected.append(t)
    assert taught(5, 1, positions, of, **options) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("parts", [(6,), (5, 2), (1,)])
def test_what_drives_taid_is_the_soft_cross_entropy_a_token_however_a_step_is_divided(parts):
    mixture, losses = objectives.Mixture(one({"taid": {"start": 0.3}}, 10)), []
    for student, teacher in (
        torch.randn(2, part, 11, generator=torch.Generator().manual_seed(part)) for part in parts
    ):
        mixture.on_logits(0, mixture.stages[0].terms[0], student, teacher, None)
        losses += (
            -((0.7 * student + 0.3 * teacher).softmax(-1) * student.log_softmax(-1)).sum(-1)
        ).tolist()
    mixture.advance(0)
    assert mixture.stateful["0-taid"].last.item() == pytest.approx(
        sum(losses) / sum(parts), rel=1e-5
    )


def test_taids_options_are_the_official_ones_unless_told():
    """A stage so long that t is nudged further than it rises."""
    official = taught(6, 1, of=100_000, start=0.4, end=1.0, alpha=5e-4, beta=0.99)
    assert taught(6, 1, of=100_000) == official and official[-1] > 0.4 + 5 * 0.6 / 100_000


def test_taids_t_moves_once_per_optimiser_step():
    for of in (4, 1000):
        assert taught(4, 3, of=of, alpha=0.5) == pytest.approx(
            taught(4, 1, of=of, alpha=0.5), rel=1e-5
        )


def test_taids_t_rises_by_the_published_schedule():
    """Without a nudge: after step s (from 0) of N the official t is start + (end - start) s / N;
    the first step moves nothing."""
    expected = [0.3 + 0.7 * step / 200 for step in range(200)]
    assert taught(200, 1, start=0.3, end=1.0, alpha=0) == pytest.approx(expected, abs=1e-7)


def test_taid_at_its_end_is_forward_kl_to_the_teacher():
    mixture = objectives.Mixture(one({"taid": 1}))
    mixture.stateful["0-taid"].t.fill_(1.0)
    found = mixture.on_logits(0, mixture.stages[0].terms[0], STUDENT, TEACHER, None)
    torch.testing.assert_close(found, divergences.forward_kl(STUDENT, TEACHER))


def test_looking_at_dev_does_not_move_taid():
    mixture = objectives.Mixture(one({"taid": 1}))
    with torch.no_grad():
        mixture.on_logits(0, mixture.stages[0].terms[0], STUDENT, TEACHER, None)
    assert mixture.stateful["0-taid"].count == 0


@pytest.mark.parametrize("name", objectives.FEATURES)
def test_losses_on_states_stay_in_single_precision_within_autocast(name):
    """Also their products of matrices, and a projection's."""
    student, teacher = torch.randn(5, 8), torch.randn(5, 12)
    mixture = objectives.Mixture(one({name: 1}), (8, 12), 1)
    expected = mixture.on_states(mixture.stages[0].terms[0], 0, student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        found = mixture.on_states(mixture.stages[0].terms[0], 0, student, teacher)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_projections_are_there_where_widths_differ_and_only_there():
    losses = one({"hidden_mse": 1, "token_relation": 1, "forward_kl": 1})
    assert not list(objectives.Mixture(losses, (8, 8), 3).parameters())
    projections = objectives.Mixture(losses, (8, 12), 3).projections
    assert {name: len(each) for name, each in projections.items()} == {"hidden_mse": 3}
    again = objectives.Mixture(losses, (8, 12), 3).projections
    assert torch.equal(projections["hidden_mse"][0].weight, again["hidden_mse"][0].weight)


def test_projections_start_as_in_committed_results_whatever_was_drawn_before():
    """Without a bias, at random with a variance of one through the width, and the same on every
    machine."""
    (projection,) = objectives.Mixture(one({"hidden_mse": 1}), (64, 96), 1).projections[
        "hidden_mse"
    ]
    assert [(name, tuple(weight.shape)) for name, weight in projection.named_parameters()] == [
        ("weight", (96, 64))
    ]
    assert projection.weight.mean().item() == pytest.approx(0, abs=4 * 64**-0.5 / 6144**0.5)
    assert projection.weight.std().item() == pytest.approx(64**-0.5, rel=0.04)
    assert projection.weight.flatten()[:3].tolist() == pytest.approx(
        [0.216275, 0.080260, -0.251260], abs=1e-5
    )


def test_states_of_one_width_are_compared_as_they_are():
    mixture, (student, teacher) = objectives.Mixture(one({"hidden_mse": 1})), torch.randn(2, 5, 8)
    found = mixture.on_states(mixture.stages[0].terms[0], 0, student, teacher)
    torch.testing.assert_close(found, features.hidden_mse(student, teacher))
    assert not mixture.projections


def test_each_layer_has_a_projection_of_its_own():
    mixture, (student, teacher) = (
        objectives.Mixture(one({"hidden_mse": 1}), (8, 12), 2),
        (torch.randn(5, 8), torch.randn(5, 12)),
    )
    with torch.no_grad():
        mixture.projections["hidden_mse"][1].weight.mul_(2)
    for layer, factor in ((0, 1), (1, 2)):
        found = mixture.on_states(mixture.stages[0].terms[0], layer, student, teacher)
        expected = features.hidden_mse(
            factor * student @ mixture.projections["hidden_mse"][0].weight.T, teacher
        )
        torch.testing.assert_close(found, expected)


def test_options_reach_a_loss_on_states():
    mixture, (student, teacher) = (
        objectives.Mixture(one({"mi_alpha": {"alpha": 0.3}})),
        torch.randn(2, 5, 8),
    )
    found = mixture.on_states(mixture.stages[0].terms[0], 0, student, teacher)
    torch.testing.assert_close(found, features.mi_alpha(student, teacher, alpha=0.3))


def test_of_two_stages_with_taid_only_the_one_at_hand_moves():
    mixture = objectives.Mixture(
        one({"taid": {"start": 0.1}}, 2) + one({"taid": {"start": 0.3}, "cross_entropy": 1}, 2)
    )
    for step in range(2):
        mixture.on_logits(0, mixture.stages[0].terms[0], STUDENT, TEACHER, None)
        mixture.advance(step)
    assert [mixture.stateful[f"{stage}-taid"].t.item() for stage in (0, 1)] == [0.55, 0.3]
    mixture.advance(2)  # where nothing was seen
    assert mixture.stateful["1-taid"].last.item() == 0
