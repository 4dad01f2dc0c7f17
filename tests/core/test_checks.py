"""Values from outside are refused in a sentence that names the place."""

import pytest

from studylib.core.checks import checked
from studylib.core.errors import StudyError
from studylib.experiments.capacity_gap import CapacityGap

SOUND = {"families": {"mini": "tiny:qwen2"}, "sizes": [4]}
TAID = {"stages": [{"steps": 6, "losses": {"taid": 1.0}}]}
CASES = {
    "an unknown name": ({"colour": 1}, "parameter 'colour' is unknown: known are families, "),
    "a name nearly right": ({"seedz": [0]}, "parameter 'seedz' is unknown: did you mean 'seeds'?"),
    "a name in a group": (
        {"training": {"lr": 1e-3}},
        "parameter 'training.lr' is unknown: did you mean 'lrs'?",
    ),
    "a name in a part that may be missing": (
        {"alternative": {"sizes": [4], "foo": 1} | TAID},
        "parameter 'alternative.foo' is unknown: known are sizes, stages.",
    ),
    "a missing one": ({"alternative": TAID}, "alternative.sizes is missing: name it."),
    "a number for a name": ({"families": {1: "tiny:qwen2"}}, "families.1 must be a valid string"),
    "a group in words": ({"machine": "fast"}, "machine must be a mapping, not 'fast'."),
    "the main losses once more": (
        {
            "alternative": {
                "sizes": [4],
                "stages": [{"steps": 6, "losses": {"forward_kl": 1, "cross_entropy": 0.5}}],
            }
        },
        "alternative: its losses are those of `training`",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), CASES.values(), ids=CASES)
def test_the_first_wrong_value_is_named(changes, sentence):
    with pytest.raises(StudyError) as refused:
        checked(CapacityGap, SOUND | changes)
    assert str(refused.value).startswith(sentence)


def test_a_number_may_be_written_as_text():
    """YAML reads 1e-3 so."""
    assert checked(CapacityGap, SOUND | {"training": {"lrs": ["1e-3"]}}).training.lrs == [1e-3]
