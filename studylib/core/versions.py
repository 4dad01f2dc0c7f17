"""The versions of the code that results depend on, and how those of earlier results differ from
today's.

A run's key holds the names and numbers of what computes it (`of`). A name here is no module: code
may move, its name stays. Raise a number when results change.

>>> of("training", "kinds")
{'training': 3, 'kinds': 1}
>>> written({"kinds": "1", "training": "3"})
'kinds 1, training 3'
>>> outdated("kinds 1, training 3", "kinds 1, training 4")
'made with training 3, today 4'
"""

from collections.abc import Mapping

VERSIONS = {
    "answering": 8,
    "cutting": 2,
    "divergences": 1,
    "facts": 2,
    "features": 1,
    "kinds": 1,  # of how runs are planned and made
    "lora": 1,
    "models": 1,
    "objectives": 2,
    "packing": 2,
    "prompts": 1,
    # probability loyalty, exact match where a teacher is right, words to find demonstrations;
    # tables are scored anew
    "scoring": 0,
    "sources": 1,
    "teaching": 2,
    "training": 3,
    "trimming": 1,
}
UNKNOWN = "made with unknown versions"


def of(*names: str) -> dict[str, int]:
    """Today's versions of what is named."""
    return {name: VERSIONS[name] for name in names}


def written(numbers: Mapping[str, str]) -> str:
    """Versions by module, as they stand in a column of a table."""
    return ", ".join(f"{module} {number}" for module, number in numbers.items())


def outdated(stored: str, today: str) -> str:
    """How the versions that something was made with differ from today's, in words; nothing where
    they do not."""
    if not stored:
        return UNKNOWN
    before, now = _numbers(stored), _numbers(today)
    unlike = [
        module
        for module in sorted(before.keys() | now.keys())
        if before.get(module) != now.get(module)
    ]
    if not unlike:
        return ""
    earlier = ", ".join(
        f"{module} {before[module]}" if module in before else f"no {module}" for module in unlike
    )
    return f"made with {earlier}, today {', '.join(now.get(module, 'none') for module in unlike)}"


def _numbers(text: str) -> dict[str, str]:
    """Versions by module, of a column's text."""
    pairs = (part.rpartition(" ") for part in text.split(", "))
    return {module: number for module, _, number in pairs}
