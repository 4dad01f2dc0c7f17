"""The words of an answer, by which it is scored and by which demonstrations are found.

rules="squad"        the official SQuAD v1.1 script (Rajpurkar et al., 2016, §6.1;
                     evaluate-v1.1.py), in English
rules="mlqa"         the official MLQA script (Lewis et al., 2020, §4; facebookresearch/MLQA,
                     mlqa_evaluation_v1.py), by the language of the context
rules="mlqa_mended"  the same, but the Arabic article goes only where a word begins

Both lower-case, drop punctuation, drop articles and split into words, in this order.
"""

import re
import string
import unicodedata

from studylib.core.errors import StudyError

ARTICLES = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "hi": None,
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": r"\sال^|ال",  # as published: it takes the two letters out of the middle of words, too
    "zh": None,
}
RULES = {
    "squad": {"en": ARTICLES["en"]},
    "mlqa": ARTICLES,
    "mlqa_mended": ARTICLES | {"ar": r"(?:^|\s)ال"},
}
IDEOGRAPH = re.compile("([\u4e00-\u9fa5])")


def _without_punctuation(text: str, *, wide: bool) -> str:
    """The text without ASCII punctuation, as for SQuAD; for MLQA (`wide`) also without any
    character of a Unicode category P."""
    marks = {
        char
        for char in set(text)
        if char in string.punctuation or (wide and unicodedata.category(char).startswith("P"))
    }
    return text.translate(dict.fromkeys(map(ord, marks)))


def usual_rules(language: str, *, mlqa: bool = False) -> str:
    """SQuAD's rules in English, but on MLQA; MLQA's elsewhere. Raises StudyError for a language
    that none know."""
    rules = "squad" if language == "en" and not mlqa else "mlqa"
    words("", language=language, rules=rules)
    return rules


def words(text: str, *, language: str = "en", rules: str = "squad") -> list[str]:
    """What an answer is compared by. Raises StudyError for rules that are unknown or do not know
    the language."""
    if rules not in RULES:
        raise StudyError(f"scoring rules {rules!r} are unknown: use {', '.join(RULES)}.")
    articles = RULES[rules]
    if language not in articles:
        raise StudyError(
            f"rules {rules!r} do not score language {language!r}: they know {', '.join(articles)}."
        )
    text, article = _without_punctuation(text.lower(), wide=rules != "squad"), articles[language]
    return segment(re.sub(article, " ", text) if article else text, language)


def segment(text: str, language: str) -> list[str]:
    """Words between blanks; in Chinese every character from U+4E00 to U+9FA5 is one, too."""
    return (IDEOGRAPH.sub(r" \1 ", text) if language == "zh" else text).split()


def composed(text: str) -> str:
    """A text in NFC: some tokenizers write no other, so two spellings of one text are compared, and
    shown to models, so."""
    return unicodedata.normalize("NFC", text)


def tokens(text: str, language: str) -> list[str]:
    """A text's words in lower case without punctuation, in MLQA's segmentation and in NFC; articles
    stay."""
    return segment(_without_punctuation(composed(text).lower(), wide=True), language)
