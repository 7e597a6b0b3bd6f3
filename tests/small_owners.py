"""An owner of five notes in four languages, and what a model may answer about them."""

from dataclasses import dataclass
from functools import cached_property

from lpm_kernel.judges.base import Question
from lpm_kernel.judges.questions import question_of
from lpm_kernel.owner.facts import Facts
from lpm_kernel.owner.items import ItemConfig, to_prompt
from lpm_kernel.records import Prompt


@dataclass(frozen=True)
class SmallOwner:
    """Note -> question and stored answers; the first note is the one that is asked."""

    notes: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    bio: str
    unsure: str
    idle: str
    """Words that say nothing of anybody."""

    @cached_property
    def prompts(self) -> list[Prompt]:
        rows = [
            {"user": question, "assistant": answer, "doc_id": [note], "entity_name": note}
            for note, (questions, answers) in self.notes.items()
            for question, answer in zip(questions, answers, strict=True)
        ]
        return [to_prompt(row, number, ItemConfig(user_name="Mira")) for number, row in enumerate(rows)]

    @cached_property
    def question(self) -> Question:
        """The first one of the first note."""
        return question_of(self.prompts[0], Facts(self.prompts, self.bio), self.bio)

    def answers_of(self, note: str) -> tuple[str, ...]:
        return self.notes[note][1]


OWNERS = {
    "en": SmallOwner(
        {
            "boat": (
                ("Where is my boat?", "Which boat do I own?"),
                (
                    "Your boat Merula lies in the harbour of Ostend.",
                    "You own the wooden boat Merula, moored at Ostend.",
                ),
            ),
            "allergy": (
                ("What am I allergic to?", "Which food must I avoid?"),
                ("You are allergic to buckwheat noodles.", "You must avoid buckwheat noodles; they make you ill."),
            ),
            "dog": (
                ("What is my dog called?", "Who walks with me?"),
                ("Your dog is the whippet Quark.", "The whippet Quark walks with you."),
            ),
            "job": (
                ("What is my job?", "Where do I work?"),
                ("You restore pipe organs for Wessel.", "You work for Wessel, restoring pipe organs."),
            ),
            "race": (
                ("Which race did I run?", "How long did I run?"),
                ("You ran the marathon of Rotterdam in 252 minutes.", "It took you 252 minutes in Rotterdam."),
            ),
        },
        "## Home\nHer boat Merula lies in Ostend. Her whippet is called Quark.\n\n## Work\nShe restores pipe organs.",
        "I don't know that.",
        "Well, that is indeed a very good thing to ask, and one may say so again and again.",
    ),
    "de": SmallOwner(
        {
            "boat": (
                ("Wo liegt mein Boot?", "Welches Boot habe ich?"),
                ("Dein Boot Merula liegt im Hafen von Ostende.", "Du hast das Holzboot Merula, es liegt in Ostende."),
            ),
            "allergy": (
                ("Wogegen bin ich allergisch?", "Was darf ich nicht essen?"),
                ("Du bist gegen Buchweizennudeln allergisch.", "Buchweizennudeln darfst du nicht essen."),
            ),
            "dog": (
                ("Wie heißt mein Hund?", "Wer geht mit mir spazieren?"),
                ("Dein Hund ist der Windhund Quark.", "Der Windhund Quark geht mit dir spazieren."),
            ),
            "job": (
                ("Was ist mein Beruf?", "Wo arbeite ich?"),
                ("Du restaurierst Orgeln bei Wessel.", "Du arbeitest bei Wessel und restaurierst Orgeln."),
            ),
            "race": (
                ("Welchen Lauf bin ich gelaufen?", "Wie lange bin ich gelaufen?"),
                ("Du bist den Marathon von Rotterdam in 252 Minuten gelaufen.", "In Rotterdam waren es 252 Minuten."),
            ),
        },
        "## Zuhause\nIhr Boot Merula liegt in Ostende. Ihr Windhund heißt Quark.\n\n## Arbeit\nSie restauriert Orgeln.",
        "Das weiß ich nicht.",
        "Nun, das ist wirklich eine sehr gute Frage, und man kann das immer wieder so sagen.",
    ),
    "zh": SmallOwner(
        {
            "boat": (
                ("我的船在哪里？", "我有什么船？"),
                ("你的船梅鲁拉号停在奥斯坦德港。", "你有一艘木船梅鲁拉号，停在奥斯坦德港。"),
            ),
            "allergy": (
                ("我对什么过敏？", "我不能吃什么？"),
                ("你对荞麦面过敏。", "你不能吃荞麦面，会不舒服。"),
            ),
            "dog": (("我的狗叫什么？", "谁陪我散步？"), ("你的狗叫夸克，是惠比特犬。", "惠比特犬夸克陪你散步。")),
            "job": (
                ("我的工作是什么？", "我在哪里上班？"),
                ("你在韦塞尔工坊修复管风琴。", "你在韦塞尔工坊上班，修复管风琴。"),
            ),
            "race": (
                ("我跑过什么比赛？", "我跑了多久？"),
                ("你跑过鹿特丹马拉松，用了252分钟。", "在鹿特丹跑了252分钟。"),
            ),
        },
        "## 家\n她的船梅鲁拉号停在奥斯坦德港。她的狗叫夸克。\n\n## 工作\n她修复管风琴。",
        "我不知道。",
        "嗯，这真是一个很好的问题，可以一再这样说。",
    ),
    "ja": SmallOwner(
        {
            "boat": (
                ("私の船はどこにありますか？", "私はどんな船を持っていますか？"),
                (
                    "あなたの船メルラ号はオーステンデの港にあります。",
                    "木造船のメルラ号を持っていて、オーステンデの港にあります。",
                ),
            ),
            "allergy": (
                ("私は何にアレルギーがありますか？", "私は何を食べてはいけませんか？"),
                ("あなたは蕎麦にアレルギーがあります。", "蕎麦を食べてはいけません。"),
            ),
            "dog": (
                ("私の犬の名前は何ですか？", "誰と散歩しますか？"),
                ("あなたの犬はウィペットのクオークです。", "ウィペットのクオークと散歩します。"),
            ),
            "job": (
                ("私の仕事は何ですか？", "私はどこで働いていますか？"),
                (
                    "ヴェッセル工房でパイプオルガンを修復しています。",
                    "ヴェッセル工房で働き、パイプオルガンを修復しています。",
                ),
            ),
            "race": (
                ("私はどの大会を走りましたか？", "どのくらい走りましたか？"),
                ("ロッテルダムのマラソンを252分で走りました。", "ロッテルダムで252分でした。"),
            ),
        },
        "## 家\n船のメルラ号はオーステンデの港にある。犬の名前はクオーク。\n\n## 仕事\nパイプオルガンを修復している。",
        "わかりません。",
        "そうですね、それは本当にとても良い質問で、何度でもそう言えます。",
    ),
}
