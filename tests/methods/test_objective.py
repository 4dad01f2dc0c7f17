"""Objectives and stages: what a YAML may say, what they are called, projections."""

import inspect
import math
import re

import pytest
import torch
import yaml

from studylib.core.errors import StudyError
from studylib.core.project import root
from studylib.methods import divergences, features, objective, options, stages
from studylib.methods.objective import Objective, Term

torch.manual_seed(0)
STUDENT, TEACHER = torch.randn(7, 11), torch.randn(7, 11)


class Fixed:
    """A view of logits and targets that are at hand, at whatever tokens."""

    def __init__(self, logits, targets=None):
        self.logits, self.targets = logits, targets

    def at(self, tokens):
        return self


def values(method, student, teacher, targets=None):
    """The values of a method's only loss."""
    (loss,) = method.loss(Fixed(student, targets), [Fixed(teacher)]).values()
    return loss


def single_stage(losses, steps=1):
    return stages.parse([{"steps": steps, "losses": losses}])


def test_cross_entropy_is_minus_the_log_probability():
    targets = torch.arange(7)
    expected = -STUDENT.log_softmax(-1)[torch.arange(7), targets]
    torch.testing.assert_close(objective.cross_entropy(STUDENT, targets), expected)
    assert objective.cross_entropy(STUDENT.bfloat16(), targets).dtype == torch.float32


@pytest.mark.parametrize("name", objective.LOSSES)
def test_every_loss_can_be_named_and_says_where_it_is_from(name):
    (stage,) = single_stage({name: 1})
    tokens = "all" if name in objective.FEATURES else "answers"
    assert stage.prototype.terms == (Term(name, 1.0, tokens),)
    assert stage.uses_teacher == (name != "cross_entropy")
    assert stage.online == (name in objective.FEATURES)
    loss = objective.LOSSES[name]
    source = inspect.getmodule(loss) if name in objective.METHODS else loss
    assert name == "cross_entropy" or re.search(r"20\d\d|arXiv", inspect.getdoc(source))


def test_the_readme_lists_every_loss_with_its_options():
    readme = (root() / "studylib" / "methods" / "README.md").read_text(encoding="utf-8")
    lines = [line.split("|") for line in readme.splitlines() if line.startswith("| `")]
    listed = {
        name: re.findall(r"`(\w+)`", parts[3])
        for parts in lines
        if len(parts) == 5
        for name in re.findall(r"`(\w+)`", parts[1])
    }
    for name in objective.LOSSES:
        assert set(options.of(objective.LOSSES[name])) <= set(listed[name]), name
    example = yaml.safe_load(readme.split("```yaml\n")[1].split("```")[0])
    assert stages.parse(example["stages"]) == stages.parse(yaml.safe_load(_example())["stages"])


def _example() -> str:
    return "stages:" + inspect.getdoc(objective).split("stages:")[1].split("\n\n")[0]


def test_the_modules_example_is_what_it_says():
    first, second = stages.parse(yaml.safe_load(_example())["stages"])
    assert (first.steps, first.prototype.terms) == (40, (Term("hidden_mse", 1.0, "all"),))
    assert second.prototype.terms[2] == Term("jsd", 0.5, "all", {"beta": 0.1})
    assert second.title == "forward_kl + 0.5 cross_entropy + 0.5 jsd(beta=0.1, all tokens)"
    assert stages.title([first, second]) == f"hidden_mse (40 steps), then {second.title} (60 steps)"
    assert stages.title([second]) == second.title and stages.steps([first, second]) == 100


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ([], "must be a list"),
        ({"steps": 3, "losses": {"forward_kl": 1}}, "must be a list"),
        ("forward_kl", "must be a list"),
        ([{"losses": {"forward_kl": 1}}], "must name steps and losses"),
        ([{"steps": 1, "losses": {"forward_kl": 1}, "rate": 1}], "must name steps and losses"),
        ([{"steps": 1, "losses": ["forward_kl"]}], "losses must map names to weights"),
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
def test_what_is_no_list_of_stages_is_refused(given, word):
    with pytest.raises(StudyError, match=word):
        stages.parse(given)


@pytest.mark.parametrize(
    ("losses", "word"),
    [
        ({"kl": 1.0}, "'kl' is unknown: known are cross_entropy, forward_kl, "),
        ({7: 1.0}, "7 is unknown: known are"),
        ({"foward_kl": 1.0}, r"'foward_kl' is unknown: did you mean 'forward_kl'\?"),
        ({"forward_kl": 0}, "weight of forward_kl must be greater than 0, not 0"),
        ({"forward_kl": math.inf}, "weight of forward_kl must be a finite number, not inf"),
        ({"forward_kl": True}, "weight of forward_kl"),
        ({"forward_kl": "one"}, "weight of forward_kl must be a valid number"),
        ({"forward_kl": None}, "weight of forward_kl"),
        (
            {"jsd": {"gamma": 0.1}},
            "jsd has no option 'gamma': it knows weight, tokens, beta, scaled, temperature",
        ),
        ({"jsd": {"beta": 1.5}}, "beta of jsd must be less than or equal to 1, not 1.5"),
        ({"jsd": {"scaled": 1}}, "scaled of jsd must be a valid boolean, not 1"),
        ({"jsd": {"temperature": 0}}, "temperature of jsd must be greater than 0, not 0"),
        ({"top_k_kl": {"k": 2.5}}, "k of top_k_kl must be a valid integer, .*, not 2.5"),
        ({"top_k_kl": {"k": 0}}, "k of top_k_kl must be greater than or equal to 1, not 0"),
        (
            {"hidden_mse": {"tokens": "some"}},
            "tokens of hidden_mse must be answers or all, not 'some'",
        ),
        ({"taid": {"start": -0.1}}, "start of taid"),
        ({"taid": {"start": 0.5, "end": 0.4}}, "start of taid must not be above its end"),
        ({"taid": {"end": 0}}, "end of taid must be greater than 0, not 0"),
        (
            {"skewed_forward_kl": {"skew": 1}},
            "skew of skewed_forward_kl must be less than 1, not 1",
        ),
        ({"top_p_kl": {"mass": 0}}, "mass of top_p_kl must be greater than 0, not 0"),
        ({"jsd": {"beta": True}}, "beta of jsd must be a number, not True"),
        ({"jsd": {"beta": "half"}}, "beta of jsd must be a valid number"),
        ({"top_k_kl": {"k": True}}, "k of top_k_kl must be a number, not True"),
        ({"jsd": {"temperature": -1}}, "temperature of jsd must be greater than 0, not -1"),
    ],
)
def test_what_is_no_loss_is_refused(losses, word):
    with pytest.raises(StudyError, match=word):
        single_stage(losses)


@pytest.mark.parametrize(
    ("name", "given"),
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
def test_the_ends_of_what_an_option_may_be_are_taken(name, given):
    (stage,) = single_stage({name: given})
    assert stage.prototype.terms == (Term(name, 1.0, "answers", given),)


def test_options_reach_the_loss():
    loss = values(Objective(losses={"jsd": {"beta": 0.2}}), STUDENT, TEACHER)
    torch.testing.assert_close(loss, divergences.jsd(STUDENT, TEACHER, beta=0.2), rtol=0, atol=0)


def test_a_step_finds_its_stage():
    curriculum = stages.Curriculum(single_stage({"forward_kl": 1}, 2) + single_stage({"jsd": 1}, 4))
    assert [curriculum.at(step) for step in range(6)] == [
        *((0, step) for step in range(2)),
        *((1, step) for step in range(4)),
    ]
    with pytest.raises(IndexError):
        curriculum.at(6)


@pytest.mark.parametrize(
    ("several", "tokens"),
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
def test_states_are_cached_for_stages_that_compare_logits_alone(several, tokens):
    assert stages.cached([stage for losses in several for stage in single_stage(losses)]) == tokens


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
    assert (
        stages.logits_everywhere(single_stage({"cross_entropy": 1}) + single_stage(losses))
        == everywhere
    )


def test_learning_from_text_is_cross_entropy_alone():
    assert stages.parse(stages.gold(7)) == single_stage({"cross_entropy": 1}, 7)


def test_shortened_stages_keep_their_shares():
    both = single_stage({"forward_kl": 1}, 2) + single_stage({"jsd": 1}, 4)
    for count, expected in ((1, [1, 1]), (3, [1, 2]), (6, [2, 4]), (9, [2, 4])):
        assert [stage.steps for stage in stages.shortened(both, count)] == expected


def projected(losses, widths, layers):
    """An objective whose student and teacher have these widths."""
    method = Objective(losses=losses)
    method.project(widths, layers)
    return method


@pytest.mark.parametrize("name", objective.FEATURES)
def test_losses_on_states_stay_in_single_precision_within_autocast(name):
    """Also their products of matrices, and a projection's."""
    student, teacher = torch.randn(5, 8), torch.randn(5, 12)
    method = projected({name: 1}, (8, 12), 1)
    expected = method.on_row(method.terms[0], 0, student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.on_row(method.terms[0], 0, student, teacher)
    assert loss.dtype == torch.float32 and torch.equal(loss, expected)


def test_projections_are_there_where_widths_differ_and_only_there():
    losses = {"hidden_mse": 1, "token_relation": 1, "forward_kl": 1}
    assert not list(projected(losses, (8, 8), 3).state.parameters())
    projections = projected(losses, (8, 12), 3).projections
    assert {name: len(layers) for name, layers in projections.items()} == {"hidden_mse": 3}
    again = projected(losses, (8, 12), 3).projections
    assert torch.equal(projections["hidden_mse"][0].weight, again["hidden_mse"][0].weight)


def test_projections_go_on_from_stage_to_stage():
    """The second stage has those of the first, and one of its own for what the first had not."""
    first = projected({"hidden_mse": 1}, (8, 12), 2)
    second = projected({"hidden_mse": 1, "hidden_cosine": 1}, (8, 12), 2)
    second.follow(first)
    assert second.projections["hidden_mse"] is first.projections["hidden_mse"]
    assert second.projections["hidden_cosine"] is not first.projections["hidden_mse"]


def test_projections_start_as_in_committed_results_whatever_was_drawn_before():
    """Without a bias, at random with a variance of one through the width, and the same on every
    machine."""
    (projection,) = projected({"hidden_mse": 1}, (64, 96), 1).projections["hidden_mse"]
    assert [(name, tuple(weight.shape)) for name, weight in projection.named_parameters()] == [
        ("weight", (96, 64))
    ]
    assert projection.weight.mean().item() == pytest.approx(0, abs=4 * 64**-0.5 / 6144**0.5)
    assert projection.weight.std().item() == pytest.approx(64**-0.5, rel=0.04)
    assert projection.weight.flatten()[:3].tolist() == pytest.approx(
        [0.216275, 0.080260, -0.251260], abs=1e-5
    )


def test_states_of_one_width_are_compared_as_they_are():
    method, (student, teacher) = Objective(losses={"hidden_mse": 1}), torch.randn(2, 5, 8)
    loss = method.on_row(method.terms[0], 0, student, teacher)
    torch.testing.assert_close(loss, features.hidden_mse(student, teacher))


def test_each_layer_has_a_projection_of_its_own():
    method = projected({"hidden_mse": 1}, (8, 12), 2)
    student, teacher = torch.randn(5, 8), torch.randn(5, 12)
    first, second = method.projections["hidden_mse"]
    with torch.no_grad():
        second.weight.mul_(2)
    for layer, projection in enumerate((first, second)):
        loss = method.on_row(method.terms[0], layer, student, teacher)
        expected = features.hidden_mse(student @ projection.weight.T, teacher)
        torch.testing.assert_close(loss, expected)


def test_options_reach_a_loss_on_states():
    method = Objective(losses={"mi_alpha": {"alpha": 0.3}})
    student, teacher = torch.randn(2, 5, 8)
    loss = method.on_row(method.terms[0], 0, student, teacher)
    torch.testing.assert_close(loss, features.mi_alpha(student, teacher, alpha=0.3))


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"steps": 1, "method": "teid"}, r"method 'teid' is unknown: did you mean 'taid'\?"),
        ({"steps": 1, "method": "taid", "options": {"tau": 1}}, "taid has no option 'tau'"),
        ({"steps": 1, "method": "taid", "options": 3}, "options of taid must map names to values"),
        ({"steps": 1, "method": "taid", "losses": {"jsd": 1}}, "must name steps and losses"),
        ({"steps": 1, "method": "taid", "options": {"start": 2}}, "start of taid must be less"),
    ],
)
def test_what_is_no_method_is_refused(given, word):
    with pytest.raises(StudyError, match=word):
        stages.parse([given])


def test_a_method_is_named_with_its_options():
    plain, changed = stages.parse(
        [
            {"steps": 1, "method": "taid"},
            {"steps": 2, "method": "taid", "options": {"start": "2e-1"}},
        ]
    )
    assert plain.title == "taid" and changed.title == "taid(start=0.2)"
    assert stages.versions([plain, changed]) == {"taid": 2}
    assert stages.title([plain, changed]) == "taid (1 steps), then taid(start=0.2) (2 steps)"
