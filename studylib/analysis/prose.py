"""Sentences from numbers: the templates beside this file, one a text, with the formats of numbers.

prose.render("rates", pairs=0, weights=[], searched=True)
"""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from studylib.analysis import formats, retention, statistics, teacher_sizes
from studylib.core import escaping, progress

ENVIRONMENT = Environment(
    loader=PackageLoader("studylib.analysis"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.filters |= {
    "capitalize_first": lambda text: text[:1].upper() + text[1:],
    "count": "{:,}".format,
    "extent": formats.extent,
    "interval": formats.interval,
    "markdown": escaping.markdown,
    "number": formats.number,
    "percent": "{:.0f}".format,
    "probability": formats.probability,
    "repr": repr,
    "signed": formats.signed,
    "spoken": progress.spoken,
    "signed_extent": lambda values: formats.extent(values, formats.signed),
}
ENVIRONMENT.globals |= {
    "span": formats.span,
    "retention": retention,
    "statistics": statistics,
    "LAW": teacher_sizes.LAW,
}


def filled(name: str, /, **values: object) -> str:
    """The text of a template as it stands."""
    return ENVIRONMENT.get_template(f"{name}.md.j2").render(values)


def render(name: str, /, **values: object) -> str:
    """The text of a template: every paragraph and every item of a list on one line."""
    blocks = re.split(r"\n\s*\n", filled(name, **values))
    lines = "\n\n".join(line for block in blocks if (line := " ".join(block.split())))
    return re.sub(r"^(- .*)\n\n(?=- )", r"\1\n", lines, flags=re.MULTILINE)
