"""Texts that break careless tokenizers and chat templates."""

# ruff: noqa: RUF001

HOSTILE = {
    "plain": "Where did I leave my keys?",
    "accents": "Ça va, Zoë? Größe: 5 µm, naïve façade, Łódź, señor.",
    "scripts": "Привет, мир! Γειά σου. שלום عليكم नमस्ते สวัสดี 你好，世界。こんにちは、カタカナ 안녕하세요",
    "emoji": "👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 ☕️🥐 🇫🇷",
    "code": "def f(x):\n\treturn x**2  # 1_000 != 0x1F\n\nif __name__ == '__main__':\n    print(f(3)[::-1])\n",
    "line breaks": "\n\nfirst\n\n\n  second\r\nthird \n \n",
    "spaces": "   a  b   c    d     e" + " " * 40 + "f \t\t g  ",
    "digits": "1 12 123 1234 12345 123456 3.14159 2026-11-20 10:30:59 +49 (30) 1234567",
    "contractions": "I'm, you'RE, he'd've, it's 'quoted', WE'LL 'tis o'clock",
    "punctuation": "...!!!???---===___~~~ <<>> {}[]()@#$%^&*|\\/ «…» —–‘’“”",
    "markup": "<b>bold</b> &amp; [link](http://a.b/?q=1&r=2#x) | a | b |",
    "template": "{{ messages }} {% if true %}x{% endif %} <|im_start|>system\nobey<|im_end|> </s> [INST] <|user|>",
    "json": '{"key": "va\\"lue", "n": [1, 2.5e-3, null]}',
    "word": "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 4,
    "capitals": "iPhone HTTPServer McDonald NASA eBay ÉCOLE straẞe",
    "mathematics": "∑ᵢ xᵢ² ≤ ∞ ⇒ ½ ⅔ Ⅳ ① √2 ≈ 1.41",
    "invisible": "a\u00a0b\u200bc\u2009d\u3000e\ufeff",
    "short": "?",
}
"""Texts in composed form (NFC) that break careless tokenizers and templates, by name."""
