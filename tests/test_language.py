"""The language of a text is known by its script and its small words; what is unknown is said to be unknown."""

import time

import pytest

from lpm_kernel.owner.language import language_name, language_of, languages, script_of

TEXTS = {
    "en": "Your boat is the wooden Merula, and she lies in Ostend.",
    "de": "Dein Boot ist die hölzerne Merula, und sie liegt in Ostende.",
    "fr": "Ton bateau est la Merula, en bois, et il est amarré à Ostende.",
    "es": "Tu barco es la Merula, de madera, y está en el puerto de Ostende.",
    "pt": "O seu barco é a Merula, de madeira, e está no porto de Ostende.",
    "it": "La tua barca è la Merula, di legno, ed è nel porto di Ostenda.",
    "nl": "Je boot is de houten Merula en ligt in de haven van Oostende.",
    "sv": "Din båt är Merula av trä, och den ligger i hamnen i Ostende.",
    "da": "Din båd er Merula af træ, og den ligger i havnen i Ostende, hvor du bor.",
    "nb": "Båten din er Merula av tre, og den ligger i havnen i Ostende, hvor du bor.",
    "fi": "Veneesi on puinen Merula, ja se on Ostenden satamassa.",
    "pl": "Twoja łódź to drewniana Merula i stoi w porcie w Ostendzie, jak się okazało.",
    "cs": "Tvoje loď je dřevěná Merula a kotví v přístavu Ostende, kde jsi ji koupila.",
    "tr": "Senin teknen ahşap bir tekne olan Merula ve Ostend limanında.",
    "vi": "Thuyền của bạn là Merula bằng gỗ và nó ở cảng Ostend.",
    "id": "Perahu Anda adalah Merula dan berada di pelabuhan Ostend.",
    "ru": "Твоя лодка — деревянная «Мерула», и она стоит в порту Остенде.",
    "uk": "Твій човен — дерев'яна «Мерула», і він стоїть у порту Остенде.",
    "ar": "قاربك هو ميرولا الخشبي وهو في ميناء أوستند.",
    "hi": "आपकी नाव लकड़ी की मेरुला है और वह ओस्टेंड के बंदरगाह में है।",
    "el": "Το σκάφος σου είναι η ξύλινη Μερούλα.",
    "th": "เรือของคุณคือเมรูลา",
    "ko": "당신의 배는 나무로 만든 메룰라이고 오스텐더 항구에 있습니다.",
    "ja": "あなたの船は木造のメルラ号で、オステンデ港に停泊しています。",
    "zh": "你的船是木制的梅鲁拉号，停在奥斯坦德港。",
}


@pytest.mark.parametrize("code", TEXTS)
def test_one_sentence_tells_its_language(code: str) -> None:
    assert language_of([TEXTS[code]]) == code


@pytest.mark.parametrize("text", ["", "12:40, 1984", "Merula Ostend Visby Gotland", "!?", "\ud800"])
def test_what_tells_no_language_is_unknown(text: str) -> None:
    assert language_of([text]) == ""


def test_names_in_another_script_do_not_turn_the_language() -> None:
    assert language_of(["我在 Wessel Workshop 工作，喜欢 Salt Road。"]) == "zh"
    assert language_of(["You read 吾輩は猫である in Kyoto, and that was the start of it."]) == "en"
    assert language_of(["我喜欢吃寿司，也去过京都的カフェ。去年夏天我和朋友在那里住了两个星期。"]) == "zh"


def test_most_of_the_texts_decide() -> None:
    assert language_of([TEXTS["de"]] * 9 + [TEXTS["en"]]) == "de"


def test_a_language_has_a_name_and_a_script_that_is_found() -> None:
    assert language_name("pt") == "Portuguese"
    assert language_name("xx") == "xx"
    assert all(script_of(text) == languages()[code].script for code, text in TEXTS.items())


def test_a_million_texts_cost_no_more_than_the_first_of_them() -> None:
    start = time.process_time()
    assert language_of(TEXTS["fr"] for _ in range(1_000_000)) == "fr"
    assert time.process_time() - start < 2
