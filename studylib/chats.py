"""A tokenizer's own chat template: the same text on any day, or none.

A template is a program that came with the model. Some print today's date, which would make other prompts under the same
key tomorrow: here it is always the same one. Some could draw at random: these are refused.
"""

import re
from datetime import datetime
from typing import Any

DATE = datetime(2024, 7, 26)  # of every chat: a template that prints today's would make other prompts tomorrow
CODES = ("-d", "-m", *"dmyYbBaAjHMSIp")
CLOCK = (  # what a template may call, in its own language
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('%{code}', '{DATE.strftime('%' + code[-1]).lstrip('0' * ('-' in code))}')" for code in CODES)
    + " }}{% endmacro %}{{ '' }}"
)
CHANCE = re.compile(r"\|\s*random\b|[\"']random[\"']|\blipsum\b")  # what jinja draws at random


def fixed(template: Any) -> Any:
    """The template with a clock of its own that stands still; what is no text is left to whoever renders it.

    Raises ValueError for one that draws at random.
    """
    if not isinstance(template, str):
        return template
    if CHANCE.search(template):
        raise ValueError("it draws at random, so no prompt could be made again")
    return CLOCK + template if "strftime_now" in template else template
