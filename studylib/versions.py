"""The versions of code that results were made with, and how today's differ from them.

>>> written({"kinds": "1", "training": "3"})
'kinds 1, training 3'
>>> outdated("kinds 1, training 3", "kinds 1, training 4")
'made with training 3, today 4'
"""

from collections.abc import Mapping

UNKNOWN = "made with unknown versions"


def written(numbers: Mapping[str, str]) -> str:
    """Versions by module, as they stand in a column of a table."""
    return ", ".join(f"{module} {number}" for module, number in numbers.items())


def outdated(made: str, today: str) -> str:
    """How the versions that something was made with differ from today's, in words; nothing where they do not."""
    if not made:
        return UNKNOWN
    before, now = _numbers(made), _numbers(today)
    unlike = [module for module in sorted(before.keys() | now.keys()) if before.get(module) != now.get(module)]
    if not unlike:
        return ""
    earlier = ", ".join(f"{module} {before[module]}" if module in before else f"no {module}" for module in unlike)
    return f"made with {earlier}, today {', '.join(now.get(module, 'none') for module in unlike)}"


def _numbers(text: str) -> dict[str, str]:
    """Versions by module, of a column's text."""
    pairs = (part.rpartition(" ") for part in text.split(", "))
    return {module: number for module, _, number in pairs}
