"""Texts and chats on which tokenizers come apart: for goldens, tests, and `check_tokenizers.py`."""

from typing import Any

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\u00a0",
    "\u3000 \u2003\u200b",
    "Hello, world!",
    "hello  world   again",
    " leading",
    "trailing ",
    "   both   ",
    "Don't, won't; I'LL we'd THEY'RE it's",
    "line one\nline two\r\nline three\rline four\n\n\nfive\n",
    "tab\tand\ttabs\t\t \t mixed \n\t indent",
    "1 12 123 1234 12345 1234567890 3.14159 1e-10 0x1F ½ ² ٣٤ 四",
    "https://example.org/a?b=c&d=%20#frag user@example.org C:\\path\\file.txt",
    "def f(x):\n    return {'a': [x ** 2, -1], \"b\": None}  # done\n",
    "<html><body class='x'>&amp;</body></html>",
    "ÀÉÎÕÜ àéîõü ß ẞ ŒUVRE ﬁn ﬀ ĳ Ⅷ ℌ Å",
    "e\u0301 a\u0300\u0316 n\u0303 \u0301alone q\u0307\u0323 q\u0323\u0307",
    "Ελληνικά Кириллица Հայերեն ქართული",
    "עִבְרִית العربية \u202eright to left\u202c فارسی",
    "日本語のテキスト、漢字かな交じり。カタカナ ｶﾀｶﾅ",
    "中文没有空格，标点。繁體中文",
    "한국어 텍스트 \u1112\u1161\u11ab",
    "ไทยไม่มีช่องว่าง हिन्दी தமிழ் বাংলা",
    "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇯🇵 ❤️ ☺︎ 1️⃣",
    "𝕬𝖑𝖕𝖍𝖆 𝟙𝟚𝟛 ＦＵＬＬＷＩＤＴＨ １２３ ①②③ ™®",
    "\x00\x01\x02\x07\x08\x0b\x0c\x1b\x7f\x80\x85\x9f",
    "zero\u200bwidth\u200djoin\ufeffbom\u00adsoft",
    "\ufffd\ufffe\uffff\U0001f9ff\U0010ffff\ue000",
    "\u2028\u2029\u0085",
    "ⅸ ǆ ŉ İ ı ſ ς Σ K",
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "<s> hi </s>",
    "a<s>b</s>c",
    "[CLS] [SEP] [MASK] [PAD] [UNK] [cls]",
    "<|endoftext|>",
    "x<|endoftext|> y<|endoftext|>",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
    "<bos><start_of_turn>user\nhi<end_of_turn>\n<eos>",
    "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜>",
    "<|start|>assistant<|channel|>final<|message|>hi<|return|>",
    "< s> <|end oftext|> <|im_start <0x41> <0x0A> <0xZZ>",
    "▁ ▁▁ ▁a a▁b ▁▁▁x Ġ ĠaĊb ##ing ##",
    "the</w> @@ at@@ ion </s",
    "a" * 300,
    " " * 70 + "x" + "\n" * 40,
    "supercalifragilisticexpialidocious" * 4,
    "!!!???...,,,---___===+++***///\\\\\\|||~~~```",
    "“quotes” ‘single’ «guillemets» „low“ … — – ‐ ‑",
    "ÐÑ Ã© â€™ mojibake: Ã¼ber cafÃ©",
    bytes(range(128, 256)).decode("latin-1"),
    bytes([0xFF, 0xFE, 0xC0, 0x80, 0xED, 0xA0, 0x41]).decode(errors="replace"),
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "The quick brown fox jumps over the lazy dog. " * 60,
]
"""Every text must give the same ids, and its ids the same text."""

PAIRS = [("Where?", "In the garden."), ("", "x"), (" a ", " b\n"), ("<s>", "</s>")]

_TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'Says how the weather is, "now" & <here>, in °C.',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where; e.g. Zürich"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                },
                "required": ["city"],
            },
        },
    }
]
_USER = {"role": "user", "content": "What is 2 + 2? <b>&'\"</b> 👍🏽"}
_ANSWER = {"role": "assistant", "content": "Four."}
_SYSTEM = {"role": "system", "content": "Be brief.\n"}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call00001",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": "Zürich"}},
        }
    ],
}
_RESULT = {
    "role": "tool",
    "tool_call_id": "call00001",
    "name": "get_weather",
    "content": '{"celsius": 21}',
}
_THOUGHT = {
    "role": "assistant",
    "content": "<think>\nTwo and two.\n</think>\n\nFour.",
}
_REASONED = {"role": "assistant", "content": "Four.", "reasoning_content": "Two and two."}

CHATS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "one question": ([_USER], {"add_generation_prompt": True}),
    "no prompt for an answer": ([_USER], {"add_generation_prompt": False}),
    "a system prompt": ([_SYSTEM, _USER], {"add_generation_prompt": True}),
    "several turns": (
        [_SYSTEM, _USER, _ANSWER, {"role": "user", "content": "  And 3?\n"}],
        {"add_generation_prompt": True},
    ),
    "ends with an answer": ([_USER, _ANSWER], {"add_generation_prompt": False}),
    "an answer to go on with": (
        [_USER, {"role": "assistant", "content": "The answer is"}],
        {"add_generation_prompt": False, "continue_final_message": True},
    ),
    "tools": ([_SYSTEM, _USER], {"add_generation_prompt": True, "tools": _TOOLS}),
    "a tool was called": (
        [_USER, _CALL, _RESULT],
        {"add_generation_prompt": True, "tools": _TOOLS},
    ),
    "thinking in the text": (
        [_USER, _THOUGHT, {"role": "user", "content": "Sure?"}],
        {"add_generation_prompt": True},
    ),
    "thinking apart": (
        [_USER, _REASONED, {"role": "user", "content": "Sure?"}],
        {"add_generation_prompt": True},
    ),
    "thinking in the last answer": ([_USER, _REASONED], {"add_generation_prompt": False}),
    "thinking switched off": (
        [_USER],
        {"add_generation_prompt": True, "enable_thinking": False},
    ),
    "parts": (
        [{"role": "user", "content": [{"type": "text", "text": "What is this?"}]}],
        {"add_generation_prompt": True},
    ),
    "an image": (
        [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}],
            }
        ],
        {"add_generation_prompt": True},
    ),
    "documents": (
        [_USER],
        {"add_generation_prompt": True, "documents": [{"title": "A", "text": "B is 4."}]},
    ),
    "two questions in a row": ([_USER, _USER], {"add_generation_prompt": True}),
    "an unknown role": ([{"role": "wizard", "content": "x"}], {"add_generation_prompt": True}),
    "nothing said": ([{"role": "user", "content": ""}], {"add_generation_prompt": True}),
}
"""What it shows: the messages, and the keywords. A template may refuse one, in both libraries."""
