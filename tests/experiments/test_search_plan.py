"""A search among a method's options: what its trials are, and what they have in common."""

import random

import pytest
from miniatures import COMPARED, SETTINGS, grouped

from studylib.core.checks import checked
from studylib.core.errors import StudyError
from studylib.core.labels import CONTROL, METHOD, STUDENT
from studylib.experiments.methods import Methods
from studylib.experiments.search import OBJECTIVE, TRIAL_KINDS, Search
from studylib.methods import stages
from studylib.methods.spaces import Categorical, Float, Int

WITHOUT = ("ernie_tiny", "multi_exit", "sequence_kd")  # options, or any that are not decided
SEARCHED = [name for name in (*stages.known(), OBJECTIVE) if name not in WITHOUT]
LR = {"lr": {"low": 1e-4, "high": 1e-2, "log": True}}


def experiment(raw: str, **changes) -> Methods:
    return checked(Methods, grouped(SETTINGS | COMPARED | {"families": {"mini": raw}} | changes))


def sample(search: Search, seed: int) -> dict:
    """Any value of each range."""
    draws, chosen = random.Random(seed), {}
    for name, where in search.space.items():
        if isinstance(where, Categorical):
            chosen[name] = draws.choice(where.choices)
        elif isinstance(where, Int):
            chosen[name] = draws.randint(where.low, where.high)
        else:
            assert isinstance(where, Float)
            chosen[name] = where.tidy(draws.uniform(where.low, where.high))
    return chosen


@pytest.fixture(scope="module")
def compared_runs(raw: str) -> dict:
    """The students of the experiment `methods`, by what they learn by."""
    trained = experiment(raw).plan().trained
    return {called["objective"]: run for run, called in trained if called["role"] != CONTROL}


@pytest.mark.parametrize("name", SEARCHED)
def test_the_defaults_are_the_run_of_the_comparison(name, raw, compared_runs):
    search = Search(experiment(raw), name)
    assert search.holds_defaults and search.fixed == ["noise"] * (name == "hinton")
    (run,) = search.trial(search.defaults).runs
    called = "forward_kl + 0.5 cross_entropy" if name == OBJECTIVE else name
    assert run.planned == compared_runs[called].planned


@pytest.mark.parametrize("name", SEARCHED)
def test_every_trial_has_the_same_budget_and_differs_in_its_options_alone(name, raw):
    search = Search(experiment(raw), name)
    (default,) = search.trial(search.defaults).runs
    different = set()
    for seed in range(5):
        chosen = sample(search, seed)
        trial = search.trial(chosen)
        if trial.refused:
            assert name == "taid" and "must not be above its end" in trial.refused
            continue
        (run,) = trial.runs
        parsed = stages.parse(run.parameters["stages"])
        assert [stage.steps for stage in parsed] == [stage["steps"] for stage in search.recipe]
        same = default.parameters.keys() - {"stages"}
        assert all(run.parameters[key] == default.parameters[key] for key in same)
        assert run.needs["init"] is default.needs["init"]
        different.add(run.planned)
    assert len(different) > 1 or name == "minillm", "it has one switch"


def test_no_test_set_is_planned(raw):
    search = Search(experiment(raw, targets="sequence_kd"), "hinton")
    plan = search.plan([search.trial(search.defaults)])
    assert not plan.tests and not plan.asked
    needed = {need.label for run in plan.runs for need in run.needs.values()}
    assert {"train", "dev"} <= needed and "near" not in needed
    kinds = [run.kind for run in plan.runs]
    assert kinds[-1] == "student" and kinds.count("student") == 1
    assert {run.kind for run in plan.runs} & set(TRIAL_KINDS) == {"student"}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_method_without_ranges_has_nothing_to_search_until_some_are_given(name, raw):
    with pytest.raises(StudyError, match=f"{name} has nothing to search: give ranges of lr"):
        Search(experiment(raw), name)
    search = Search(experiment(raw), name, LR)
    assert list(search.space) == ["lr"]
    assert search.fixed == (["stage"] if name == "ernie_tiny" else [])


@pytest.mark.parametrize(
    ("method", "described", "message"),
    [
        ("hintom", {}, "method 'hintom' is unknown: did you mean 'hinton'?"),
        (
            "hinton",
            {"temperatur": 1},
            "option 'temperatur' is unknown: did you mean 'temperature'?",
        ),
        ("distiller", {"layer_mapping": "kept"}, "did you mean 'mapping'?"),
        ("hinton", {"hard": 2}, "hard of hinton must be less than or equal to 1, not 2"),
        ("hinton", {"lr": [3]}, "lr of hinton must be less than 1, not 3"),
        ("hinton", {"targets": ["silver"]}, "targets of hinton must be 'gold', 'sequence_kd'"),
        ("hinton", {"targets": ["gold, sequence_kd where withheld"]}, "answers that are withheld"),
        ("hinton", {"temperature": 1, "hard": 0}, "hinton has nothing to search"),
        ("hinton", {"losses": [{"jsd": 1}]}, "option 'losses' is unknown"),
        ("objective", {"losses": {"jsd": 1}}, "losses must be a list of mixtures"),
        ("objective", {"losses": [{"jst": 1}]}, "loss 'jst' is unknown: did you mean 'jsd'?"),
        (
            "objective",
            {"losses": [{"jsd": 1}, {"jsd": 2}], "forward_kl.weight": 1},
            "forward_kl.weight belongs to losses of the profile",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(method, described, message, raw):
    with pytest.raises(StudyError) as error:
        Search(experiment(raw), method, described)
    assert message in str(error.value)


def test_losses_mappings_and_text_are_searched_together(raw):
    """What a student of distiller learns: which losses, from which blocks, which text."""
    described = {"targets": ["gold", "sequence_kd", "filtered"], "weight": 1.0, **LR}
    search = Search(experiment(raw), "distiller", described)
    assert {"inner", "soft", "mapping", "targets", "lr"} <= set(search.space)
    chosen = search.defaults | {
        "inner": "hidden_mse",
        "soft": "jsd",
        "mapping": "skip",
        "targets": "sequence_kd",
        "lr": 2e-3,
    }
    (run,) = search.trial(chosen).runs
    assert run.parameters["stages"] == [
        {
            "steps": 2,
            "method": "distiller",
            "options": {"inner": "hidden_mse", "soft": "jsd", "mapping": "skip"},
        }
    ]
    assert run.parameters["targets"] == "sequence_kd" and run.parameters["lr"] == 2e-3
    assert {"teacher", "teacher_answers"} <= set(run.needs)


def test_mixtures_of_losses_are_chosen_as_a_whole(raw):
    mixtures = [{"forward_kl": 1.0}, {"jsd": {"beta": 0.1}, "cross_entropy": 0.5}]
    search = Search(experiment(raw), OBJECTIVE, {"losses": mixtures})
    assert list(search.space) == ["losses"] and not search.holds_defaults
    (run,) = search.trial({"losses": mixtures[1]}).runs
    assert run.parameters["stages"] == [{"steps": 2, "losses": mixtures[1]}]


def test_several_rates_are_searched_by_each_student_unless_one_is_chosen(raw):
    search = Search(experiment(raw, lrs=[1e-3, 2e-3]), "hinton", LR)
    assert "lr" not in search.defaults and not search.holds_defaults
    assert search.trial(search.defaults).runs[0].parameters["lr"] == "searched"
    (run,) = search.trial(search.defaults | {"lr": 5e-3}).runs
    assert run.parameters["lr"] == 5e-3 and "lr_search" not in run.needs


@pytest.mark.parametrize("name", [*SEARCHED, "multi_exit"])
def test_what_is_recommended_is_what_a_profile_takes(name, raw):
    """As a method with its options, or as the stages; it is the very student of the trial."""
    compared = experiment(raw)
    search = Search(compared, name, LR | {"targets": ["gold", "filtered"]})
    for seed in range(3):
        chosen = sample(search, seed)
        trial = search.trial(chosen)
        if trial.refused:
            continue
        recommended = {"methods": ["hinton"]} | search.recommended(chosen)
        training = compared.training.model_dump() | recommended.get("training", {})
        values = compared.model_dump() | recommended | {"training": training}
        arm = STUDENT if name == OBJECTIVE else METHOD
        plan = checked(Methods, values).plan()
        (student,) = [run for run, called in plan.trained if called.get("arm") == arm]
        assert student.planned == trial.runs[0].planned


def test_fresh_seeds_are_none_of_the_experiment(raw):
    search = Search(experiment(raw, seeds=[3, 0]), "hinton")
    assert search.fresh_seeds == [4, 5]
    assert [run.parameters["seed"] for run in search.trial(search.defaults).runs] == [3, 0]
    (run,) = search.trial(search.defaults, [4]).runs
    assert run.parameters["seed"] == 4
