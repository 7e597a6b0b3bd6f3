"""How a verdict is spelt, in seven languages: the names of the two answers, what is said of the better one, and ties.

A spelling is a whole phrase, never words within a sentence, which may negate, doubt or quote them. Every name of the
first answer stands beside its name of the second, so that exchanging the two exchanges the verdict.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

from lpm_kernel.records import Outcome

LONGEST_PHRASE_CHARS = 80
MARKS = re.compile(r"[\s*_`\"'“”‘’«»„「」『』()\[\]【】#]+")
"""What may stand around words without changing their sense; a dash before a number is none of it."""
BULLET = re.compile(r"\A[-+•] (?=\D)")
HYPHEN = re.compile(r"(?<=first|econd)-(?=win)")
SENTENCE_ENDS = (".", "!", "。", "！", "۔", "।")
"""A question's is none of them: what follows answers it."""
PAUSE = re.compile(r"[.!,:。、]+")


@dataclass(frozen=True)
class Language:
    """Its words for a verdict; `{}` is the name of an answer."""

    names: tuple[tuple[str, str], ...]
    """Of the first and of the second answer."""
    wins: tuple[str, ...]
    ties: tuple[str, ...]
    labels: tuple[str, ...]
    """What announces a verdict: before a colon, or as the key of an object."""
    openings: tuple[str, ...]
    """Courtesies that may stand before a verdict."""
    doubts: tuple[str, ...]
    """Beginnings of words that quote, suppose or refuse: what follows them is no verdict."""
    turns: tuple[str, ...]
    """Beginnings of words that take back what was said before."""


def _pairs(first: str, second: str, *nouns: str, form: str = "{side} {noun}") -> tuple[tuple[str, str], ...]:
    """The two sides with each of the nouns."""
    return tuple((form.format(side=first, noun=noun), form.format(side=second, noun=noun)) for noun in nouns)


VERDICTS = (
    *("verdict", "comparison", "winner", "judgement", "judgment", "decision", "preference", "choice"),
    *("preferred answer", "better answer", "better response", "better"),
)
NOUNS = ("answer", "response", "option", "candidate", "reply", "assistant", "model", "one")
ENGLISH = Language(
    names=(
        *(("first", "second"), ("the first", "the second"), ("1st", "2nd"), ("the 1st", "the 2nd")),
        *(("1", "2"), ("number 1", "number 2"), ("number one", "number two")),
        *_pairs("first", "second", *NOUNS),
        *_pairs("the first", "the second", *NOUNS),
        *_pairs("the 1st", "the 2nd", *NOUNS),
        *(_pairs("1", "2", *NOUNS[:-1], form="{noun} {side}")),
        *(_pairs("one", "two", *NOUNS[:-1], form="{noun} {side}")),
        *(_pairs("a", "b", *NOUNS[:-1], form="{noun} {side}")),
    ),
    wins=(
        *("{}", "{} win", "{} wins", "{} won", "{} is better", "{} is the better one", "{} is the better answer"),
        *("{} is the winner", "{} is preferred", "winner {}", "winner is {}", "the winner is {}", "verdict is {}"),
        *("the verdict is {}", "my verdict is {}", "the better answer is {}", "the better one is {}", "i prefer {}"),
        *("i choose {}", "i pick {}"),
    ),
    ties=(
        *("tie", "a tie", "it's a tie", "it is a tie", "the tie", "tied", "they are tied", "draw", "a draw"),
        *("it's a draw", "it is a draw", "equal", "they are equal", "they tie", "equally good"),
        *("both are equally good", "both answers are equally good"),
    ),
    labels=(
        *(" ".join(words) for words in product(("the", "my", "final", "my final", "the final"), VERDICTS)),
        *VERDICTS,
        *("final answer", "my final answer", "the final answer", "the verdict is", "my verdict is", "the winner is"),
    ),
    openings=(
        *("sure", "ok", "okay", "certainly", "of course", "here you are", "here you go", "json", "output"),
        *("here is my verdict", "here is the verdict", "here's my verdict", "here is my final verdict"),
        *("here is the comparison", "here is the result", "here is the json", "here is the json object"),
        *("here is my judgement", "here is my judgment", "here is my answer"),
    ),
    doubts=(
        *(
            "refus",
            "declin",
            "sorry",
            "apolog",
            "as an ai",
            "unable",
            "format",
            "instruct",
            "for example",
            "placeholder",
        ),
        *("follow", "hypothe", "pretend", "template", "schema", "no verdict", "not true", "untrue", "opposite"),
        *("cannot judge", "cannot decide", "cannot say", "cannot tell", "cannot help", "cannot comply"),
        *("cannot choose", "cannot answer", "can't judge", "can't decide", "can't say", "can't tell", "can't help"),
        *(
            "can't comply",
            "can't choose",
            "can't answer",
            "told to",
            "told me",
            "tells me",
            "asks me",
            "asked me",
            "reply with",
        ),
        *("respond with", "quot", "ignore"),
    ),
    turns=(
        *("wait", "actually", "correction", "second thought", "scratch that", "that back", "reconsider", "i mean"),
        *("my mind", "i was wrong", "sorry", "oops", "on reflection", "should be", "disregard", "no, ", "hmm"),
    ),
)
GERMAN = Language(
    names=(
        *(("erste", "zweite"), ("erster", "zweiter"), ("erstes", "zweites"), ("der erste", "der zweite")),
        *(("die erste", "die zweite"), ("erste antwort", "zweite antwort")),
        *(("die erste antwort", "die zweite antwort"), ("antwort 1", "antwort 2"), ("antwort eins", "antwort zwei")),
        *(("antwort a", "antwort b"), ("die 1", "die 2")),
    ),
    wins=(
        *("{}", "{} gewinnt", "{} siegt", "{} hat gewonnen", "{} ist besser", "{} ist die bessere"),
        *("{} ist die bessere antwort", "es gewinnt {}", "gewinner ist {}", "der gewinner ist {}", "sieger ist {}"),
        *("der sieger ist {}", "ich bevorzuge {}", "besser ist {}", "die bessere antwort ist {}"),
    ),
    ties=(
        *("unentschieden", "ein unentschieden", "es ist ein unentschieden", "gleichstand", "gleich gut", "remis"),
        *("beide sind gleich gut", "beide antworten sind gleich gut"),
    ),
    labels=(
        *("urteil", "mein urteil", "das urteil", "endurteil", "gewinner", "sieger", "entscheidung"),
        *("bessere antwort", "die bessere antwort", "vergleich"),
    ),
    openings=("gerne", "hier ist mein urteil", "hier ist das urteil", "hier ist das ergebnis"),
    doubts=(
        *("weiger", "leider", "entschuldig", "kann nicht", "kann ich nicht", "beispiel", "anweisung", "folgende"),
        *("angenommen", "kein urteil"),
    ),
    turns=(
        "moment",
        "warte",
        "korrektur",
        "korrigier",
        "eigentlich",
        "vielmehr",
        "nein,",
        "irrtum",
        "doch die",
        "doch 2",
    ),
)
FRENCH = Language(
    names=(
        *(("première", "deuxième"), ("première", "seconde"), ("premier", "deuxième"), ("premier", "second")),
        *(("la première", "la deuxième"), ("la première", "la seconde"), ("le premier", "le second")),
        *(("première réponse", "deuxième réponse"), ("première réponse", "seconde réponse")),
        *(("la première réponse", "la deuxième réponse"), ("la première réponse", "la seconde réponse")),
        *(("réponse 1", "réponse 2"), ("la réponse 1", "la réponse 2"), ("réponse a", "réponse b")),
        *(("la réponse a", "la réponse b"), ("la 1", "la 2"), ("1re", "2e")),
    ),
    wins=(
        *("{}", "{} gagne", "{} l'emporte", "{} a gagné", "{} est meilleure", "{} est la meilleure"),
        *("{} est meilleur", "{} est le meilleur", "{} est préférable", "victoire de {}", "je préfère {}"),
        *("le gagnant est {}", "la gagnante est {}", "c'est {}"),
        *("{} est la meilleure réponse", "la meilleure réponse est {}", "{} remporte"),
    ),
    ties=("égalité", "une égalité", "c'est une égalité", "à égalité", "match nul", "ex aequo", "ex æquo", "égales"),
    labels=(
        *("mon verdict", "le verdict", "gagnant", "gagnante", "vainqueur", "décision"),
        *("meilleure réponse", "la meilleure réponse", "comparaison", "jugement", "mon jugement"),
    ),
    openings=("bien sûr", "voici mon verdict", "voici le verdict", "voici le résultat"),
    doubts=("désolé", "ne peux", "exemple", "consigne", "suivant", "supposons", "pas de verdict"),
    turns=("attend", "en fait", "plutôt la", "plutôt le", "finalement", "non,", "en réalité", "rectif"),
)
SPANISH = Language(
    names=(
        *(("primera", "segunda"), ("primero", "segundo"), ("la primera", "la segunda"), ("el primero", "el segundo")),
        *(("primera respuesta", "segunda respuesta"), ("la primera respuesta", "la segunda respuesta")),
        *(("respuesta 1", "respuesta 2"), ("la respuesta 1", "la respuesta 2"), ("respuesta a", "respuesta b")),
        *(("la respuesta a", "la respuesta b"), ("la 1", "la 2"), ("1ª", "2ª"), ("la 1ª", "la 2ª")),
    ),
    wins=(
        *("{}", "{} gana", "gana {}", "{} es mejor", "es mejor {}", "{} es la mejor", "{} es la ganadora"),
        *(
            "{} ha ganado",
            "{} ganó",
            "ganó {}",
            "{} es la mejor respuesta",
            "la mejor respuesta es {}",
            "la ganadora es {}",
            "el ganador es {}",
            "prefiero {}",
        ),
    ),
    ties=("empate", "un empate", "es un empate", "empatan", "igualdad", "son iguales"),
    labels=(
        *("veredicto", "mi veredicto", "el veredicto", "ganador", "ganadora", "decisión"),
        *("mejor respuesta", "la mejor respuesta", "comparación"),
    ),
    openings=("claro", "aquí está mi veredicto", "aquí está el veredicto", "este es mi veredicto"),
    doubts=("lo siento", "no puedo", "ejemplo", "instrucc", "siguiente", "supongamos", "sin veredicto"),
    turns=("espera", "en realidad", "mejor dicho", "corrección", "perdón", "de hecho", "no,", "más bien"),
)
CHINESE = Language(
    names=(
        *(("第一", "第二"), ("第一个", "第二个"), ("第1个", "第2个"), ("第一個", "第二個"), ("第1個", "第2個")),
        *_pairs("第一个", "第二个", "回答", "答案", "回复", form="{side}{noun}"),
        *_pairs("第1个", "第2个", "回答", "答案", "回复", form="{side}{noun}"),
        *_pairs("第一個", "第二個", "回答", "答案", "回覆", form="{side}{noun}"),
        *_pairs("1", "2", "回答", "答案", "回复", "回覆", form="{noun}{side}"),
        *_pairs("一", "二", "回答", "答案", "回复", "回覆", form="{noun}{side}"),
    ),
    wins=(
        *("{}", "{}更好", "{}更佳", "{}更优", "{}较好", "{}比较好", "{}胜", "{}获胜", "{}胜出", "{}赢", "{}赢了"),
        *("选{}", "选择{}", "我选{}", "我选择{}", "{}较优", "{}胜利", "{}較好", "{}勝", "{}獲勝", "{}勝出", "{}贏"),
    ),
    ties=("平局", "平手", "打平", "和局", "不分胜负", "不分勝負", "一样好", "一樣好"),
    labels=(
        *("结论", "最终结论", "判断", "裁决", "获胜者", "胜者", "赢家", "更好的回答", "更好的答案"),
        *("結論", "判斷", "裁決", "獲勝者", "勝者", "贏家"),
    ),
    openings=("好的", "当然", "這是我的判斷", "这是我的判断", "我的判断是"),
    doubts=("抱歉", "对不起", "對不起", "无法", "無法", "不能", "拒绝", "拒絕", "格式", "例如", "比如", "假设", "如下"),
    turns=("等等", "等一下", "不对", "不對", "更正", "其实", "其實", "应该是", "應該是", "错了", "錯了"),
)
JAPANESE_SIDES = (
    ("1番目", "2番目"),
    ("一番目", "二番目"),
    ("1つ目", "2つ目"),
    ("一つ目", "二つ目"),
    ("最初", "二番目"),
)
JAPANESE = Language(
    names=(
        *JAPANESE_SIDES[:-1],
        *(pair for sides in JAPANESE_SIDES for pair in _pairs(*sides, "回答", "答え", "応答", form="{side}の{noun}")),
        *_pairs("第一", "第二", "回答", "答え", form="{side}の{noun}"),
        *_pairs("第1", "第2", "回答", "答え", form="{side}の{noun}"),
        *_pairs("1", "2", "回答", "答え", form="{noun}{side}"),
        *_pairs("a", "b", "回答", "答え", form="{noun}{side}"),
    ),
    wins=(
        *("{}", "{}です", "{}の勝ち", "{}の勝ちです", "{}の勝利", "{}が勝ち", "{}が勝ちです", "{}が良い"),
        *("{}が良いです", "{}の方が良い", "{}の方が良いです", "{}のほうが良い", "{}のほうが良いです", "{}がより良い"),
        *("{}がより良いです", "{}が優れている", "{}が優れています", "{}の方が優れている", "{}の方が優れています"),
        *(
            "{}のほうが優れている",
            "{}のほうが優れています",
            "{}がよい",
            "{}の方がよい",
            "{}のほうがよい",
            "{}を選びます",
        ),
        *("{}が勝者です", "勝者は{}です"),
    ),
    ties=("引き分け", "引き分けです", "引分け", "同点", "同点です", "互角", "互角です"),
    labels=("判定", "最終判定", "勝者", "結論", "より良い回答"),
    openings=("はい", "判定は以下の通りです", "判定結果"),
    doubts=("申し訳", "できません", "できない", "お断り", "形式", "例えば", "指示", "仮に", "もし", "次の"),
    turns=("いや", "待って", "やっぱり", "やはり", "訂正", "実は", "間違えました"),
)
RUSSIAN = Language(
    names=(
        *(("первый", "второй"), ("первая", "вторая"), ("первое", "второе"), ("первый ответ", "второй ответ")),
        *(("ответ 1", "ответ 2"), ("первый вариант", "второй вариант"), ("вариант 1", "вариант 2")),
        *(("первого ответа", "второго ответа"), ("первого", "второго"), ("1-й", "2-й")),
    ),
    wins=(
        *("{}", "{} лучше", "лучше {}", "{} побеждает", "побеждает {}", "{} победил", "победил {}", "победа {}"),
        *("{} выигрывает", "выигрывает {}", "{} выиграл", "{} предпочтительнее", "победитель {}"),
    ),
    ties=("ничья", "это ничья", "равны", "они равны", "оба ответа равны", "одинаково хороши"),
    labels=("вердикт", "мой вердикт", "победитель", "решение", "лучший ответ", "вывод"),
    openings=("конечно", "вот мой вердикт", "вот вердикт", "вот результат"),
    doubts=("извин", "не могу", "отказ", "формат", "например", "пример", "инструкц", "следующ", "предполож"),
    turns=("подожд", "стоп", "на самом деле", "вернее", "исправ", "нет,", "всё же", "все же"),
)
LETTERS = Language(
    names=(("a", "b"),),
    wins=("{}", "{} win", "{} wins", "{} won", "{} is better"),
    ties=(),
    labels=(),
    openings=(),
    doubts=(),
    turns=(),
)
"""Alone or before what is said of them: after other words, `a` is the article of what was cut."""
LANGUAGES = (LETTERS, ENGLISH, GERMAN, FRENCH, SPANISH, CHINESE, JAPANESE, RUSSIAN)
COURTESIES = ("done", "i hope it helps", "i hope this helps", "hope it helps", "hope this helps", "thank you")
"""What may stand after a verdict."""


def plain(text: str) -> str:
    """The phrase in lower case without spaces and marks around its words; empty when it is too long to be one.

    What could change its sense stays: signs, dashes before numbers, question marks, dots within.
    """
    text = " ".join(text.split())
    if len(text) > LONGEST_PHRASE_CHARS:
        return ""
    if not text.isascii():
        text = _folded(text)
    text = MARKS.sub("", HYPHEN.sub("", BULLET.sub("", text.casefold()))).rstrip("!。")
    return text if text.endswith("..") else text.removesuffix(".")


def _folded(text: str) -> str:
    """Any script's digits and any width's letters as ours, nothing for what cannot be seen; no fraction or exponent."""
    if any(unicodedata.category(char) in ("No", "Nl") for char in text):
        return "?"
    shown = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    return "".join(char if (decimal := unicodedata.decimal(char, None)) is None else str(decimal) for char in shown)


@dataclass(frozen=True)
class Grammar:
    """What all languages together know, as `plain` writes it."""

    spellings: Mapping[str, Outcome]
    labels: frozenset[str]
    openings: frozenset[str]
    closings: frozenset[str]
    doubts: re.Pattern[str]
    turns: re.Pattern[str]

    def refuses(self, text: str) -> bool:
        """Whether a text refuses, or quotes what was asked for."""
        return self.doubts.search(_running(text)) is not None

    def takes_back(self, text: str) -> bool:
        """Whether a text turns round what was said before it."""
        return self.turns.search(_running(text)) is not None

    def outcome_of(self, phrase: str) -> Outcome | None:
        """What a plain phrase means, `label: verdict` too; None for anything else."""
        *labels, verdict = phrase.split(":")
        return self.spellings.get(verdict) if self.labels.issuperset(labels) else None

    def is_opening(self, line: str) -> bool:
        """Whether a plain line holds nothing but labels and courtesies."""
        return bool(line) and self.openings.issuperset(filter(None, PAUSE.split(line)))


@cache
def grammar() -> Grammar:
    """Of all LANGUAGES; made when the first reply is read."""
    sides: tuple[Outcome, Outcome] = ("first", "second")
    spellings: dict[str, Outcome] = {
        plain(frame.format(name)): side
        for language in LANGUAGES
        for names, frame in product(language.names, language.wins)
        for side, name in zip(sides, names, strict=True)
    }
    labels = {plain(label) for language in LANGUAGES for label in language.labels}
    return Grammar(
        spellings=spellings | {plain(tie): "tie" for language in LANGUAGES for tie in language.ties},
        labels=frozenset(labels),
        openings=frozenset(labels | {plain(opening) for language in LANGUAGES for opening in language.openings}),
        closings=frozenset(map(plain, COURTESIES)),
        doubts=_beginnings(word for language in LANGUAGES for word in language.doubts),
        turns=_beginnings(word for language in LANGUAGES for word in language.turns),
    )


def _running(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").split())


def _beginnings(words: Iterable[str]) -> re.Pattern[str]:
    """Of a word in Latin letters; other scripts may write no space before it."""
    return re.compile("|".join(rf"\b{word}" if word.isascii() else word for word in map(re.escape, words)))
