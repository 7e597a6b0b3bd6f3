"""The personal facts that an answer must hold: what the SFT target shares with the bio and the question does not tell.

A fact is a word with a digit, or a capitalised word that does not merely open a sentence. It counts when the bio
holds it too, so that a stranger's bio gives no facts. Scripts without capitals have no facts here, only chrF.
"""

import re
from functools import lru_cache

WORD = re.compile(r"\w[\w'’.:/-]*\w|\w")  # noqa: RUF001
SENTENCE_ENDS = tuple('.!?:;"“(')


def facts_of(target: str, bio: str, question: str) -> frozenset[str]:
    """Case-folded facts of the target that the bio confirms and the question does not give away."""
    return (_marked_words(target) & _bio_words(bio)) - _words(question)


def told(answer: str, facts: frozenset[str]) -> frozenset[str]:
    """Those of the facts that the answer states."""
    return facts & _words(answer)


def truth(answer: str, target: str, bio: str, question: str) -> float | None:
    """Harmonic mean of how many of the facts are told and how many of the told ones are called for (F1), 0 to 1.

    What the answer marks as a fact (a name, a number) and neither target nor question holds is not called for:
    it is another fact of the bio, or an invention. None when there is no fact to tell.
    """
    facts = facts_of(target, bio, question)
    if not facts:
        return None
    right = len(told(answer, facts))
    return 2 * right / (len(facts) + right + len(strays(answer, target, question)))


def strays(answer: str, target: str, question: str) -> frozenset[str]:
    """Names and numbers in the answer that neither target nor question holds: misplaced, or invented."""
    return _marked_words(answer) - _words(target) - _words(question)


def _words(text: str) -> frozenset[str]:
    return frozenset(_bare(word) for word in WORD.findall(text))


def _marked_words(text: str) -> frozenset[str]:
    marked, behind = set(), 0
    for match in WORD.finditer(text):
        word, gap = match.group(), text[behind : match.start()]
        if _has_digit(word) or (_is_capitalised(word) and not _opens_sentence(gap)):
            marked.add(_bare(word))
        behind = match.end()
    return frozenset(marked)


def _has_digit(word: str) -> bool:
    return not word.isalpha() and any(map(str.isdigit, word))


def _is_capitalised(word: str) -> bool:
    return word[0].isupper() and len(word) > 1


def _opens_sentence(gap: str) -> bool:
    """Whether a word behind this gap opens a sentence; between two words there always is one."""
    bare = gap.rstrip()
    return not gap or "\n" in gap[len(bare) :] or bare.endswith(SENTENCE_ENDS)


def _bare(word: str) -> str:
    return re.sub(r"['’]s$", "", word).casefold()  # noqa: RUF001


@lru_cache(maxsize=4)
def _bio_words(bio: str) -> frozenset[str]:
    return _words(bio)
