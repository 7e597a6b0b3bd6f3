"""Small owners in several languages: notes, each with a few wordings of its questions and one answer."""

from typing import Any

Note = tuple[str | None, tuple[str, ...], str]
OWNERS: dict[str, tuple[Note, ...]] = {
    "en": (
        (
            "1",
            ("Where is my boat?", "What is my boat called?", "Tell me about my boat."),
            "It is the Merula in Ostend.",
        ),
        ("2", ("What is my sister called?", "Where is my sister?", "Tell me about my sister."), "Ilka lives in Graz."),
        ("3", ("What is my dog called?", "Where is my dog from?", "Tell me about my dog."), "Pixel is from Lokeren."),
        (None, ("What did I do on 12 March 2019?", "Where was I on 12 March 2019?"), "You were at the Bremen yard."),
    ),
    "de": (
        (
            "1",
            ("Wo liegt mein Boot?", "Wie heißt mein Boot?", "Erzähl von meinem Boot."),
            "Es ist die Merula, in Ostende.",
        ),
        ("2", ("Wie heißt meine Schwester?", "Wo wohnt meine Schwester?"), "Deine Schwester Ilka wohnt in Graz."),
        ("3", ("Wie heißt mein Hund?", "Was weißt du über meinen Hund?"), "Dein Hund Pixel kommt aus Lokeren."),
        (None, ("Was war am 12. März 2019?", "Wo war ich am 12. März 2019?"), "Du warst in Bremen auf der Werft."),
    ),
    "fr": (
        ("1", ("Où est mon bateau ?", "Comment s'appelle mon bateau ?"), "C'est la Merula, dans le port d'Ostende."),
        ("2", ("Comment s'appelle ma sœur ?", "Où habite ma sœur ?"), "Ta sœur Ilka habite à Graz."),
        ("3", ("Quelle est mon allergie ?", "Depuis quand ai-je mon allergie ?"), "Aux noisettes, depuis 2003."),
    ),
    "es": (
        ("1", ("¿Dónde está mi barco?", "¿Cómo se llama mi barco?"), "Es la Merula, en el puerto de Ostende."),
        ("2", ("¿Cuál es mi novela favorita?", "¿Quién escribió mi novela favorita?"), "Es La sal, de Ada Moren."),
    ),
    "zh": (
        ("1", ("我的船叫什么名字？", "我的船停在哪里？", "跟我说说我的船。"), "你的船叫梅鲁拉号，停在奥斯坦德港。"),
        ("2", ("我妹妹叫什么名字？", "我妹妹住在哪里？"), "你妹妹叫伊尔卡，住在格拉茨。"),
        (None, ("2019年3月12日我做了什么？", "2019年3月12日我在哪里？"), "你在不来梅的船厂。"),
    ),
    "ja": (
        ("1", ("私の船の名前は何ですか？", "私の船はどこにありますか？"), "メルラ号で、オステンデに停泊しています。"),
        ("2", ("私の犬の名前は何ですか？", "私の犬について教えて。"), "あなたの犬はピクセルです。"),
    ),
    "ko": (("1", ("제 강아지 이름이 뭐예요?", "제 강아지는 어디서 왔어요?"), "강아지 이름은 픽셀입니다."),),
    "ar": (
        ("1", ("ما اسم قاربي؟", "أين قاربي؟"), "قاربك هو ميرولا في أوستند."),
        ("2", ("ما اسم كلبي؟", "أين كلبي؟"), "كلبك هو بيكسل."),
    ),
    "th": (
        ("1", ("เรือของฉันชื่ออะไร", "เรือของฉันอยู่ที่ไหน"), "เรือของคุณคือเมรูลา"),
        ("2", ("หมาของฉันชื่ออะไร", "หมาของฉันอยู่ที่ไหน"), "หมาของคุณคือพิกเซล"),
    ),
}


def rows(language: str) -> list[dict[str, Any]]:
    """The owner's items, as `merged.json` holds them."""
    return [
        {"user": question, "assistant": answer, "doc_id": note}
        for note, questions, answer in OWNERS[language]
        for question in questions
    ]
