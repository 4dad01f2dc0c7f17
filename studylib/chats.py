"""A conversation in a tokenizer's own chat template: the same text on any day, or none.

A template is a program that came with the model. Some print today's date, which would make other prompts under the same
key tomorrow: here it is always the same one. Some could draw at random: these are refused.
"""

import re
from datetime import datetime

from transformers import PreTrainedTokenizerBase

DATE = datetime(2024, 7, 26)  # of every chat: a template that prints today's would make other prompts tomorrow
CODES = ("-d", "-m", *"dmyYbBaAjHMSIp")
CLOCK = (  # what a template may call, in its own language
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('%{code}', '{DATE.strftime('%' + code[-1]).lstrip('0' * ('-' in code))}')" for code in CODES)
    + " }}{% endmacro %}{{ '' }}"
)
CHANCE = re.compile(r"\|\s*random\b|[\"']random[\"']|\blipsum\b")  # what jinja draws at random


def rendered(tokenizer: PreTrainedTokenizerBase, spoken: list[dict[str, str]]) -> str:
    """A conversation in the tokenizer's template, the same on any day. Raises ValueError for a template that draws at random."""
    template = tokenizer.get_chat_template()
    if CHANCE.search(template):
        raise ValueError("it draws at random, so no prompt could be made again")
    if "strftime_now" in template:
        template = CLOCK + template
    return str(tokenizer.apply_chat_template(spoken, chat_template=template, tokenize=False, add_generation_prompt=True))
