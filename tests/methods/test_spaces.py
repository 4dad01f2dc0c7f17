"""Where options are searched: ranges by types, which hold defaults and give what methods take."""

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from studylib.core.errors import StudyError
from studylib.methods import objective, options, spaces, stages
from studylib.methods.distiller import Inner, Soft
from studylib.methods.spaces import Categorical, Float, Int, Option

Colour = Enum("Colour", {"RED": "red", "BLUE": "blue"})
SEARCHED = {name: spaces.of(method) for name, method in stages.known().items()}


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        (options.Share, 0.5, Float(0.0, 1.0)),
        (options.BelowOne, 0.1, Float(0.0, 0.99)),
        (options.BelowOne, 0.995, Float(0.0, 0.995)),
        (options.AboveZero, 0.9, Float(0.01, 1.0)),
        (options.Positive, 2.0, Float(0.2, 20.0, log=True)),
        (options.Count, 8, Int(2, 32, log=True)),
        (options.Count, 1, Int(1, 4, log=True)),
        (Annotated[int, Field(ge=2, le=5)], 3, Int(2, 5)),
        (Annotated[int, Field(gt=2, lt=5)], 3, Int(3, 4)),
        (options.Switch, True, Categorical((False, True))),
        (Literal["a", "b"], "a", Categorical(("a", "b"))),
        (Literal["a"], "a", Categorical(("a",))),
        (Colour, "red", Categorical(("red", "blue"))),
        (float, 1.0, None),
        (str, "a", None),
        (dict[str, Any], {}, None),
        (options.Positive, None, None),
        (options.NotNegative, 0.0, None),
        ("Tensor", 1.0, None),
    ],
)
def test_a_range_follows_from_type_and_default(kind, default, expected):
    assert Option(kind, default).range == expected


@pytest.mark.parametrize("name", SEARCHED)
def test_every_option_of_every_method_has_a_range_that_holds_its_default(name):
    """But for one that is off unless it is given."""
    for called, option in SEARCHED[name].items():
        if (name, called) == ("hinton", "noise"):
            assert option.default == 0 and option.range is None
        else:
            assert option.range is not None and option.default in option.range, called


def values(where: spaces.Range) -> st.SearchStrategy:
    if isinstance(where, Categorical):
        return st.sampled_from(where.choices)
    if isinstance(where, Int):
        return st.integers(where.low, where.high)
    return st.floats(where.low, where.high).map(where.tidy)


@pytest.mark.parametrize("name", [name for name, each in SEARCHED.items() if each])
@given(data=st.data())
def test_a_method_takes_every_sample_or_says_why_not(name, data):
    ranges = {called: option.range for called, option in SEARCHED[name].items() if option.range}
    chosen = {called: data.draw(values(where), called) for called, where in ranges.items()}
    assert all(value in ranges[called] for called, value in chosen.items())
    stage = {"steps": 3, "method": name, "options": chosen}
    try:
        (parsed,) = stages.parse([stage])
    except StudyError as error:
        assert name == "taid" and "must not be above its end" in str(error)
    else:
        assert dict(parsed.options) == chosen


def test_distiller_chooses_among_all_losses():
    searched = SEARCHED["distiller"]
    assert searched["inner"].range == Categorical(tuple(objective.FEATURES))
    assert searched["soft"].range == Categorical(tuple(objective.DIVERGENCES))
    assert searched["inner"].kind is Inner and searched["soft"].kind is Soft


def test_losses_have_weights_and_options_that_can_be_changed():
    losses = {"forward_kl": 1, "jsd": {"beta": 0.1, "weight": 2.0}, "cross_entropy": 0.5}
    searched = spaces.of_losses(losses)
    assert list(searched) == [
        *("forward_kl.weight", "forward_kl.temperature", "jsd.weight", "jsd.beta", "jsd.scaled"),
        *("jsd.temperature", "cross_entropy.weight"),
    ]
    assert searched["jsd.beta"].default == 0.1 and searched["jsd.scaled"].default is False
    assert searched["cross_entropy.weight"].range == Float(0.05, 5.0, log=True)
    changed = {"forward_kl.temperature": 2.0, "jsd.beta": 0.3, "cross_entropy.weight": 1.5}
    assert spaces.with_losses(losses, changed) == {
        "forward_kl": {"weight": 1, "temperature": 2.0},
        "jsd": {"beta": 0.3, "weight": 2.0},
        "cross_entropy": 1.5,
    }
    assert losses["jsd"] == {"beta": 0.1, "weight": 2.0}, "as it was"


@pytest.mark.parametrize(
    ("kind", "written", "expected"),
    [
        (options.Positive, {"low": 1, "high": 8, "log": True}, Float(1.0, 8.0, log=True)),
        (options.Share, {"low": "1e-1", "high": 0.5}, Float(0.1, 0.5)),
        (options.Count, {"low": 1, "high": 8}, Int(1, 8)),
        (options.Count, [1, 2, 2], Categorical((1, 2))),
        (options.Positive, 3, Categorical((3.0,))),
        (options.Switch, False, Categorical((False,))),
        (Literal["a", "b"], "b", Categorical(("b",))),
    ],
)
def test_a_range_is_read_as_a_yaml_gives_it(kind, written, expected):
    where = spaces.read("hinton", "size", kind, written)
    assert where == expected and spaces.is_open(where) == (str(where) not in ("3.0", "False", "b"))


@pytest.mark.parametrize(
    ("kind", "written", "message"),
    [
        (options.Positive, {"low": 1}, "is no range: give {low, high}"),
        (options.Positive, {"low": 1, "high": 2, "step": 1}, "is no range: give {low, high}"),
        (options.Positive, {"low": 1, "high": 2, "log": 1}, "is no range: give {low, high}"),
        (options.Positive, {"low": 2, "high": 1}, "2 to 1 is no range: let low be at most high"),
        (options.Share, {"low": 0, "high": 1, "log": True}, "above 0 where `log` is true"),
        (options.Positive, {"low": 0, "high": 1}, "size of hinton must be greater than 0, not 0"),
        (options.Share, [0.5, 2], "size of hinton must be less than or equal to 1, not 2"),
        (options.Share, [], "size has no values to choose from"),
        (options.Share, True, "size of hinton must be a number, not True"),
        (Literal["a", "b"], {"low": "a", "high": "b"}, "size is no number: list the values"),
        (Literal["a", "b"], ["a", "c"], "size of hinton must be 'a' or 'b', not 'c'"),
    ],
)
def test_what_is_no_range_is_refused(kind, written, message):
    with pytest.raises(StudyError) as error:
        spaces.read("hinton", "size", kind, written)
    assert message in str(error.value)
