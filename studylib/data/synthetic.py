"""Generated SQuAD-format questions in MLQA's seven languages: invented names, so that nothing can
be known beforehand.

Every context states a few facts, one a sentence; each names two invented names that occur nowhere
else in it, and is asked for once: the first name is in the question, the second is the answer.
Names belong to exactly one split, decided by their digest. The split `out-of-domain` has templates
that no other has: two a language in new words, two that put known ones together anew.

    >>> paragraphs("test", contexts=1, facts=1, seed=0)[0]["context"]
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

SPLITS = {  # the tenths of the name space, 0 to 9, whose names they have
    "train": range(0, 7),
    "dev": range(7, 8),
    "test": range(8, 9),
    "out-of-domain": range(9, 10),
}


@dataclass(frozen=True)
class Language:
    """How names are made (syllables a word, words a name, what stands between them) and facts are
    stated and asked for.

    `in_domain` and `out_of_domain` are pairs of a statement with {a} and {b}, and the question for
    {b}.
    """

    syllables: tuple[str, ...]
    word: tuple[int, ...]
    words: tuple[int, ...]
    blank: str
    in_domain: tuple[tuple[str, str], ...]
    out_of_domain: tuple[tuple[str, str], ...]


def _joined(*parts: str) -> tuple[str, ...]:
    return tuple("".join(chosen) for chosen in product(*(part.split() for part in parts)))


LATIN = _joined("b d f g h j k l m n p r s t v w z", "a e i o u")
LANGUAGES = {
    "en": Language(
        LATIN,
        (2,),
        (1, 1, 2),
        " ",
        (
            ("{a} lives in {b}.", "Where does {a} live?"),
            ("{a} works for {b}.", "Who does {a} work for?"),
            ("{a} was born in {b}.", "Where was {a} born?"),
            ("{a} wrote {b}.", "What did {a} write?"),
            ("{a} founded {b}.", "What did {a} found?"),
            ("{a} married {b}.", "Who did {a} marry?"),
        ),
        (
            ("The home of {a} is {b}.", "What is the home of {a}?"),
            ("The teacher of {a} is {b}.", "What is the name of the teacher of {a}?"),
            ("{a} works in {b}.", "Where does {a} work?"),
            ("{a} wrote for {b}.", "Who did {a} write for?"),
        ),
    ),
    "de": Language(
        LATIN,
        (2,),
        (1, 1, 2),
        " ",
        (
            ("{a} wohnt in {b}.", "Wo wohnt {a}?"),
            ("{a} arbeitet für {b}.", "Für wen arbeitet {a}?"),
            ("{a} wurde in {b} geboren.", "Wo wurde {a} geboren?"),
            ("{a} schrieb {b}.", "Was schrieb {a}?"),
            ("{a} gründete {b}.", "Was gründete {a}?"),
            ("{a} heiratete {b}.", "Wen heiratete {a}?"),
        ),
        (
            ("Die Heimat von {a} ist {b}.", "Welche Heimat hat {a}?"),
            ("{a} lernte bei {b}.", "Bei wem lernte {a}?"),
            ("{a} arbeitet in {b}.", "Wo arbeitet {a}?"),
            ("{a} schrieb für {b}.", "Für wen schrieb {a}?"),
        ),
    ),
    "es": Language(
        LATIN,
        (2,),
        (1, 1, 2),
        " ",
        (
            ("{a} vive en {b}.", "¿Dónde vive {a}?"),
            ("{a} trabaja para {b}.", "¿Para quién trabaja {a}?"),
            ("{a} nació en {b}.", "¿Dónde nació {a}?"),
            ("{a} escribió {b}.", "¿Qué escribió {a}?"),
            ("{a} fundó {b}.", "¿Qué fundó {a}?"),
            ("{a} se casó con {b}.", "¿Con quién se casó {a}?"),
        ),
        (
            ("La patria de {a} es {b}.", "¿Cuál es la patria de {a}?"),
            ("{a} aprendió de {b}.", "¿De quién aprendió {a}?"),
            ("{a} trabaja en {b}.", "¿Dónde trabaja {a}?"),
            ("{a} escribió para {b}.", "¿Para quién escribió {a}?"),
        ),
    ),
    "ar": Language(
        _joined("ب ت ج د ر س ف ك ل م ن", "ا و ي"),
        (2,),
        (1, 1, 2),
        " ",
        (
            ("يعيش {a} في {b}.", "أين يعيش {a}؟"),
            ("يعمل {a} لدى {b}.", "لدى من يعمل {a}؟"),
            ("ولد {a} في {b}.", "أين ولد {a}؟"),
            ("كتب {a} كتاب {b}.", "ماذا كتب {a}؟"),
            ("أسس {a} شركة {b}.", "ماذا أسس {a}؟"),
            ("تزوج {a} من {b}.", "ممن تزوج {a}؟"),
        ),
        (
            ("موطن {a} هو {b}.", "ما هو موطن {a}؟"),
            ("تعلم {a} عند {b}.", "عند من تعلم {a}؟"),
            ("يعمل {a} في {b}.", "أين يعمل {a}؟"),
            ("كتب {a} في {b}.", "أين كتب {a}؟"),
        ),
    ),
    "hi": Language(
        _joined("क ख ग ज त द न प ब म र ल व स", "ा ी ू े ो"),
        (2,),
        (1, 1, 2),
        " ",
        (
            ("{a} का घर {b} में है।", "{a} का घर कहाँ है?"),
            ("{a} का काम {b} के लिए है।", "{a} का काम किसके लिए है?"),
            ("{a} का जन्म {b} में हुआ।", "{a} का जन्म कहाँ हुआ?"),
            ("{a} ने {b} लिखा।", "{a} ने क्या लिखा?"),
            ("{a} ने {b} की स्थापना की।", "{a} ने किसकी स्थापना की?"),
            ("{a} की शादी {b} से हुई।", "{a} की शादी किससे हुई?"),
        ),
        (
            ("{a} अक्सर {b} जाता है।", "{a} अक्सर किस जगह जाता है?"),
            ("{a} को {b} पसंद है।", "{a} को कौन पसंद है?"),
            ("{a} का काम {b} में है।", "{a} का काम कहाँ है?"),
            ("{a} का जन्म {b} के लिए हुआ।", "{a} का जन्म किसके लिए हुआ?"),
        ),
    ),
    "vi": Language(
        _joined("b d h k l m n t v", "ả ình ọc ương ế ùng ân ơi"),
        (1,),
        (2, 2, 3),
        " ",
        (
            ("{a} sống ở {b}.", "{a} sống ở đâu?"),
            ("{a} làm việc cho {b}.", "{a} làm việc cho ai?"),
            ("{a} sinh ra tại {b}.", "{a} sinh ra tại đâu?"),
            ("{a} đã viết {b}.", "{a} đã viết gì?"),
            ("{a} thành lập {b}.", "{a} thành lập gì?"),
            ("{a} kết hôn với {b}.", "{a} kết hôn với ai?"),
        ),
        (
            ("Quê của {a} là {b}.", "Quê của {a} là nơi nào?"),
            ("{a} học nghề từ {b}.", "{a} học nghề từ người nào?"),
            ("{a} làm việc ở {b}.", "{a} làm việc ở đâu?"),
            ("{a} đã viết cho {b}.", "{a} đã viết cho ai?"),
        ),
    ),
    "zh": Language(
        tuple("阿巴卡达尔菲戈哈伊杰科拉玛娜奥佩琪若莎塔维沃雅泽布丹朵芙格惠吉凯兰米宁欧帕瑞森汀"),
        (2, 3),
        (1,),
        "",
        (
            ("{a}住在{b}。", "{a}住在哪里?"),
            ("{a}为{b}工作。", "{a}为谁工作?"),
            ("{a}出生于{b}。", "{a}出生于哪里?"),
            ("{a}写了{b}。", "{a}写了什么?"),
            ("{a}创立了{b}。", "{a}创立了什么?"),
            ("{a}嫁给了{b}。", "{a}嫁给了谁?"),
        ),
        (
            ("{a}的家乡是{b}。", "{a}的家乡叫什么名字?"),
            ("{a}师从{b}。", "{a}师从何人?"),
            ("{a}工作于{b}。", "{a}工作于哪里?"),
            ("{a}出生在{b}。", "{a}出生在哪里?"),
        ),
    ),
}


def name(rng: Random, split: str, language: str = "en") -> str:
    """An invented name of `language` that belongs to `split`, e.g. 'Kamo Tiru'."""
    grammar = LANGUAGES[language]
    while True:
        words = [
            "".join(rng.choice(grammar.syllables) for _ in range(rng.choice(grammar.word)))
            for _ in range(rng.choice(grammar.words))
        ]
        candidate = " ".join(word.capitalize() for word in words)
        if hashlib.sha256(candidate.encode()).digest()[0] % 10 in SPLITS[split]:
            return candidate


def paragraphs(
    split: str, *, contexts: int, facts: int, seed: int, languages: Sequence[str] = ("en",)
) -> list[dict]:
    """SQuAD-schema paragraphs: `facts` sentences each, one question a fact, answers at their
    offsets; languages take turns.

    A paragraph's `title` is its own, since every context is drawn independently: it is its own
    cluster.
    """
    return [
        _paragraph(split, seed, index, facts, languages[index % len(languages)])
        for index in range(contexts)
    ]


def _names(rng: Random, split: str, language: str, count: int) -> list[str]:
    """So many names of a split, no word of which stands in another."""
    names: list[str] = []
    while len(names) < count:
        candidate = name(rng, split, language)
        if not any(
            word in other or part in candidate
            for word in candidate.split()
            for other in names
            for part in other.split()
        ):
            names.append(candidate)
    return names


def _paragraph(split: str, seed: int, index: int, facts: int, language: str) -> dict:
    rng, title, grammar = (
        Random(f"{split}/{seed}/{index}"),
        f"{split}-{seed}-{index}",
        LANGUAGES[language],
    )
    names = _names(rng, split, language, 2 * facts)
    statements: list[str] = []
    questions = []
    for a, b in zip(names[::2], names[1::2], strict=True):
        statement, question = rng.choice(
            grammar.out_of_domain if split == "out-of-domain" else grammar.in_domain
        )
        before = grammar.blank.join([*statements, statement.partition("{b}")[0].format(a=a)])
        questions.append((question.format(a=a), b, len(before)))
        statements.append(statement.format(a=a, b=b))
    rng.shuffle(questions)
    return {
        "title": title,
        "language": language,
        "context": grammar.blank.join(statements),
        "statements": statements,
        "qas": [
            {
                "id": f"{title}-{number}",
                "question": question,
                "answers": [{"text": text, "answer_start": start}],
            }
            for number, (question, text, start) in enumerate(questions)
        ],
    }
