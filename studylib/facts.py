"""Generated SQuAD-format questions: invented people and places, so that nothing can be known beforehand.

Every context states a few facts, one a sentence; each names two invented names that occur nowhere else in it, and is
asked for once: the first name is in the question, the second is the answer. Names belong to exactly one split, decided
by their digest.

    >>> paragraphs("test", contexts=1, facts=1, seed=0)[0]["context"]
"""

import hashlib
from random import Random

CONSONANTS, VOWELS = "bdfghjklmnprstvwz", "aeiou"
SYLLABLES = [c + v for c in CONSONANTS for v in VOWELS]
SPLITS = {"train": range(0, 7), "dev": range(7, 8), "test": range(8, 10)}
RELATIONS = [  # statement, and question for b
    ("{a} lives in {b}.", "Where does {a} live?"),
    ("{a} works for {b}.", "Who does {a} work for?"),
    ("{a} was born in {b}.", "Where was {a} born?"),
    ("{a} wrote {b}.", "What did {a} write?"),
    ("{a} founded {b}.", "What did {a} found?"),
    ("{a} married {b}.", "Who did {a} marry?"),
]


def split_of(name: str) -> int:
    """The tenth of the name space, 0 to 9, that a name lies in."""
    return hashlib.sha256(name.encode()).digest()[0] % 10


def name(rng: Random, split: str) -> str:
    """An invented name of two to four syllables that belongs to `split`, e.g. 'Kamo Tiru'."""
    while True:
        words = [rng.choice(SYLLABLES) + rng.choice(SYLLABLES) for _ in range(rng.choice((1, 1, 2)))]
        candidate = " ".join(word.capitalize() for word in words)
        if split_of(candidate) in SPLITS[split]:
            return candidate


def paragraphs(split: str, *, contexts: int, facts: int, seed: int) -> list[dict]:
    """SQuAD-schema paragraphs: `facts` sentences each, one question a fact, answers at their offsets.

    A paragraph's `title` is its own, since every context is drawn independently: it is its own cluster.
    """
    return [_paragraph(Random(f"{split}/{seed}/{index}"), split, facts, f"{split}-{seed}-{index}") for index in range(contexts)]


def _paragraph(rng: Random, split: str, facts: int, title: str) -> dict:
    names: list[str] = []
    while len(names) < 2 * facts:
        candidate = name(rng, split)
        if not any(word in other.split() for word in candidate.split() for other in names):
            names.append(candidate)
    sentences, asked = [], []
    for number in range(facts):
        statement, question = rng.choice(RELATIONS)
        a, b = names[2 * number], names[2 * number + 1]
        start = sum(len(sentence) + 1 for sentence in sentences)
        sentences.append(statement.format(a=a, b=b))
        asked.append((question.format(a=a), b, start + statement.index("{b}") - len("{a}") + len(a)))
    rng.shuffle(asked)
    qas = [
        {"id": f"{title}-{number}", "question": question, "answers": [{"text": text, "answer_start": start}]}
        for number, (question, text, start) in enumerate(asked)
    ]
    return {"title": title, "context": " ".join(sentences), "qas": qas}
