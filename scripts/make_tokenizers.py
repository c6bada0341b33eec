"""Trains a small tokenizer of every kind, and writes what Transformers makes of texts and chats.

    python scripts/make_tokenizers.py [FOLDER ...]  # Transformers 5.23.0, tokenizers, sentencepiece

Run by hand. Each folder of tests/goldens/tokenizers holds the files of a tokenizer as they are
published, and expected.json: what `scripts/check_tokenizers.py` asks, answered by Transformers or,
for what is a model of SentencePiece alone, by the library sentencepiece, which made it.
"""

import io
import json
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import sentencepiece
import tokenizers
import transformers
from _nasty import TEXTS
from check_tokenizers import Theirs, everything
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

GOLDENS = Path(__file__).resolve().parent.parent / "tests" / "goldens" / "tokenizers"
SIZE = 420
ABOUT_TEXTS = ("text", "decode", "pair", "padded", "size")
LONGEST = 400  # characters of a text whose answers are kept
CORPUS = [text for name, text in sorted(topics.items())][:40] + [t for t in TEXTS if len(t) < 200]

CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "Tools:" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}
        {{- raise_exception('There is no role ' + message.role) }}
    {%- endif %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set texts = message.content | selectattr('text', 'defined') %}
        {%- set content = texts | map(attribute='text') | join %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.reasoning_content and enable_thinking is not false %}
        {{- '<think>' + message.reasoning_content + '</think>' }}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ content }}{% endgeneration %}
    {%- else %}
        {{- content }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>' + call.function | tojson(indent=1) + '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if documents %}
    {%- for document in documents %}
        {{- document.title ~ ': ' ~ document.text ~ '\\n' }}
    {%- endfor %}
{%- endif %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
INST = """\
{{ bos_token }}{% for message in messages %}
{% if message['role'] == 'user' %}
[INST] {{ message['content'] | trim }} [/INST]
{% elif message['role'] == 'assistant' %}
{{ message['content'] }}{{ eos_token }}
{% else %}
{{ raise_exception('Only user and assistant roles are supported!') }}
{% endif %}
{% endfor %}
"""


def main() -> None:
    for make in MAKERS:
        folder = GOLDENS / make.__name__.replace("_", "-")
        if sys.argv[1:] and folder.name not in sys.argv[1:]:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = make(folder)
        write(folder, by_sentencepiece(folder, model) if model else {})
    size = sum(path.stat().st_size for path in GOLDENS.rglob("*") if path.is_file())
    print(f"{size:,} bytes")


def write(folder: Path, differing: dict[str, Any]) -> None:
    """Writes expected.json: what Transformers answers, and over it what SentencePiece does."""
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    answers = everything(Theirs(tok))
    if (folder / "tokenizer.json").exists():
        plain = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        odd = {k for k, v in everything(Theirs(plain)).items() if v != answers[k]}
        answers |= {k: v for k, v in everything(Theirs(plain)).items() if "token" not in k}
        print(f"{folder.name}: {type(tok).__name__} differs from its file in {len(odd)}")
    odd = {key: answers.get(key) for key, value in differing.items() if answers.get(key) != value}
    if differing:
        print(f"{folder.name}: {len(odd)} answers are not SentencePiece's")
        answers.pop("special ids")  # Transformers counts symbols of a user among them
        answers.pop("pair 2")  # the spaces around its texts are what the two differ in
        compared = {key.split(",")[0].replace("text", "decode") for key in differing}
        if len(odd) > len(TEXTS) / 2:  # Transformers reads no such model, or puts no space before
            answers = {k: v for k, v in answers.items() if not k.startswith(ABOUT_TEXTS)}
        elif not isinstance(tok, transformers.PreTrainedTokenizerFast):  # puts spaces around tokens
            answers = {
                k: v
                for k, v in answers.items()
                if not k.startswith("decode") or k.split(",")[0] in compared
            }
        for key in [key for key in odd if key.startswith("text")]:
            number = key.removesuffix(", False")
            answers.pop(f"{number}, True", None)
            for rest in ("", ", skip"):
                answers.pop(number.replace("text", "decode") + rest, None)
    if folder.name.startswith(("marian", "m2m")):  # classes that take off spaces at either end
        answers = {k: v for k, v in answers.items() if "decode" not in k}
    if folder.name == "nllb-file":  # the class's own tokens are added to texts, not the file's
        kept = ("decode", "chat", "size")
        answers = {k: v for k, v in answers.items() if "False" in k or k.startswith(kept)}
    short = {key for key in answers if not key.startswith(("text", "decode"))}
    short |= {key for key in answers if key not in short and len(TEXTS[index_of(key)]) <= LONGEST}
    found = {
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "sentencepiece": sentencepiece.__version__ if differing else None,
        "class": type(tok).__name__,
        "answers": {k: v for k, v in (answers | differing).items() if k in short},
        "transformers differs": {k: v for k, v in odd.items() if k in short},
    }
    if folder.name in SPOKEN:
        found["languages"] = spoken(tok, *SPOKEN[folder.name])
    text = json.dumps(found, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    (folder / "expected.json").write_text(text.replace('],"', '],\n"') + "\n")


SPOKEN = {
    "m2m-model": ("de", "fr"),
    "marian-model": ("", "fra"),
    "mbart-model": ("de_DE", "ro_RO"),
    "nllb-file": ("deu_Latn", "fra_Latn"),
}
"""{folder: two of its languages}."""


def spoken(tok: Any, source: str, target: str) -> dict[str, Any]:
    """What Transformers makes of a text in one language, of a pair, of what it is to become in
    another, and that one's id."""
    text, pair = "The import statement", "A while loop"
    found: dict[str, Any] = {"codes": [source, target], "texts": [text, pair]}
    if not source:  # Marian: the text itself says what it is to become
        found["source"] = tok(f">>{target}<< {text}")["input_ids"]
        found["pair"] = tok(f">>{target}<< {text}", pair)["input_ids"]
    else:
        tok.src_lang, tok.tgt_lang = source, target
        found["source"] = tok(text)["input_ids"]
        found["pair"] = tok(text, pair)["input_ids"]
    found["target"] = tok(text_target=text)["input_ids"]
    form = {"m2m-model": "__{}__", "marian-model": ">>{}<<"}.get(Path(tok.name_or_path).name, "{}")
    found["id"] = tok.convert_tokens_to_ids(form.format(target))
    return found


def index_of(key: str) -> int:
    return int(key.split()[1].strip(","))


def put(folder: Path, name: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
    (folder / name).write_text(text, encoding="utf-8")


def trained(model: Any, trainer: Any, **parts: Any) -> tokenizers.Tokenizer:
    tok = tokenizers.Tokenizer(model)
    for name, part in parts.items():
        setattr(tok, name, part)
    tok.train_from_iterator(CORPUS, trainer)
    return tok


BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def wordpiece_pipeline(**options: Any) -> tokenizers.Tokenizer:
    tok = trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=700, special_tokens=BERT, show_progress=False),
        normalizer=normalizers.BertNormalizer(**options),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
        decoder=decoders.WordPiece(),
    )
    tok.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tok


def wordpiece(folder: Path) -> None:
    tok = wordpiece_pipeline(lowercase=True)
    tok.enable_truncation(16)
    tok.enable_padding(pad_token="[PAD]", length=16)
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    named = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
    config = {f"{name}_token": token for name, token in named.items()}
    config |= {"tokenizer_class": "BertTokenizer", "model_max_length": 64}
    config |= {"clean_up_tokenization_spaces": True, "do_lower_case": True}
    put(folder, "tokenizer_config.json", config)


def wordpiece_vocab(folder: Path) -> None:
    """BERT as it was published first: vocab.txt, cased."""
    tok = wordpiece_pipeline(lowercase=False, strip_accents=False)
    ids = sorted(tok.get_vocab().items(), key=lambda item: item[1])
    put(folder, "vocab.txt", "".join(f"{token}\n" for token, _ in ids))
    put(folder, "tokenizer_config.json", {"do_lower_case": False, "model_max_length": 512})
    put(folder, "config.json", {"model_type": "bert"})


def byte_bpe_pipeline(special: list[str], **parts: Any) -> tokenizers.Tokenizer:
    return trained(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=SIZE,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        **{
            "pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False),
            "decoder": decoders.ByteLevel(),
            **parts,
        },
    )


def byte_bpe_chat(folder: Path) -> None:
    """Llama 3's and Qwen's form: added tokens in tokenizer_config.json, templates in files."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tok = byte_bpe_pipeline(special)
    tok.add_tokens(["<tool_call>", "</tool_call>", "<think>", "</think>"])
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    added = {
        str(number): {
            "content": token.content,
            "lstrip": token.content == "<think>",
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token.special,
        }
        for number, token in tok.get_added_tokens_decoder().items()
    }
    number = len(added) + SIZE - len(special)
    added[str(number)] = {"content": "<|vision|>", "special": True, "normalized": False}
    put(
        folder,
        "tokenizer_config.json",
        {
            "added_tokens_decoder": added,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "image_token": "<|vision|>",
            "model_max_length": 1000000000000000019884624838656,
            "pad_token": "<|endoftext|>",
            "padding_side": "left",
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    put(folder, "chat_template.jinja", CHATML)
    put(folder, "config.json", {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"})


def byte_bpe_old_added(folder: Path) -> None:
    """Old files: special_tokens_map.json and added_tokens.json beside tokenizer.json."""
    tok = byte_bpe_pipeline(["<|endoftext|>"])
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    size = tok.get_vocab_size()
    put(folder, "added_tokens.json", {"<extra>": size + 1, "<sep>": size})
    special = {
        "eos_token": "<|endoftext|>",
        "sep_token": {"content": "<sep>", "lstrip": True, "normalized": False, "rstrip": False},
        "additional_special_tokens": ["<one>"],
    }
    put(folder, "special_tokens_map.json", special)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


def bpe_files(folder: Path, tok: tokenizers.Tokenizer) -> None:
    model = json.loads(tok.to_str())["model"]
    put(folder, "vocab.json", model["vocab"])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    put(folder, "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")


def gpt2_files(folder: Path) -> None:
    bpe_files(folder, byte_bpe_pipeline(["<|endoftext|>"]))
    put(folder, "config.json", {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"})


def opt_files(folder: Path) -> None:
    bpe_files(folder, byte_bpe_pipeline(ROBERTA))
    config = {"add_bos_token": True, "tokenizer_class": "GPT2Tokenizer", "pad_token": "<pad>"}
    config |= {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"}
    put(folder, "tokenizer_config.json", config)


def roberta_files(folder: Path) -> None:
    bpe_files(folder, byte_bpe_pipeline(ROBERTA))
    put(folder, "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"})


def qwen2_files(folder: Path) -> None:
    bpe_files(folder, byte_bpe_pipeline([], normalizer=normalizers.NFC()))
    added = {
        str(SIZE + i): {"content": token, "special": True, "normalized": False}
        for i, token in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    }
    config = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added}
    config |= {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None}
    put(folder, "tokenizer_config.json", config)


def clip_files(folder: Path) -> None:
    tok = trained(
        models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"),
        trainers.BpeTrainer(
            vocab_size=SIZE + 256,
            special_tokens=["<|startoftext|>", "<|endoftext|>"],
            end_of_word_suffix="</w>",
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        normalizer=normalizers.Lowercase(),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    bpe_files(folder, tok)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"})


def fallback_bpe(folder: Path) -> None:
    """Llama 2's tokenizer.json: BPE with byte fallback, spaces by a normalizer."""
    spm = sentencepiece_model("bpe", byte_fallback=True, normalization_rule_name="identity")
    vocab, merges = pieces_of(spm)
    tok = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tok.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    tok.add_special_tokens([AddedToken(t, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tok.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s>:1 $B:1", [("<s>", 1)])
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "legacy": True}
    config |= {"bos_token": "<s>", "eos_token": "</s>"}
    config["chat_template"] = [
        {"name": "default", "template": INST},
        {"name": "tool_use", "template": "{{ tools | tojson }}" + INST},
    ]
    put(folder, "tokenizer_config.json", config)


def unigram(folder: Path) -> None:
    """Unigram with Metaspace, as XLM-R's tokenizer.json."""
    unigram_metaspace(folder, "always", True)


def unigram_first(folder: Path) -> None:
    unigram_metaspace(folder, "first", False)


def bpe_never(folder: Path) -> None:
    """BPE with Metaspace that prepends nothing, and the other side of padding."""
    space = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    tok = trained(
        models.BPE(unk_token="<unk>", fuse_unk=True),
        trainers.BpeTrainer(vocab_size=SIZE, special_tokens=ROBERTA, show_progress=False),
        pre_tokenizer=space,
        decoder=decoders.Metaspace(prepend_scheme="never"),
    )
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"unk_token": "<unk>", "pad_token": "<pad>", "padding_side": "left"}
    put(folder, "tokenizer_config.json", config | {"truncation_side": "left"})


def unigram_metaspace(folder: Path, scheme: str, split: bool) -> None:
    space = {"prepend_scheme": scheme, "split": split}
    tok = trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=SIZE, special_tokens=ROBERTA, unk_token="<unk>", show_progress=False
        ),
        normalizer=normalizers.Sequence(
            [
                normalizers.Nmt(),
                normalizers.NFKC(),
                normalizers.Replace(tokenizers.Regex(" {2,}"), " "),
            ]
        ),
        pre_tokenizer=pre_tokenizers.Metaspace(**space),
        decoder=decoders.Metaspace(**space),
    )
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    names = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    tokens = ("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>")
    config: dict[str, Any] = {f"{n}_token": t for n, t in zip(names, tokens, strict=True)}
    put(folder, "tokenizer_config.json", config)


def sentencepiece_model(kind: str, size: int = SIZE, **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in CORPUS for line in text.split("\n") if line]),
        model_writer=model,
        model_type=kind,
        vocab_size=size + 320 if options.get("byte_fallback") else size,
        hard_vocab_limit=False,
        character_coverage=0.98,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def pieces_of(model: bytes) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary of a BPE model, and its merges in the order of their scores."""
    spm = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocab = {spm.id_to_piece(i): i for i in range(len(spm))}
    merges = []
    for piece, number in vocab.items():
        if spm.is_control(number) or spm.is_unknown(number) or spm.is_byte(number):
            continue
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        pairs = [pair for pair in splits if pair[0] in vocab and pair[1] in vocab]
        merges += [
            (number, *pair) for pair in sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))
        ]
    return vocab, [(left, right) for _, left, right in sorted(merges, key=lambda merge: merge[0])]


def llama_model(folder: Path) -> bytes:
    """Llama 2 and Mistral: tokenizer.model alone."""
    model = sentencepiece_model(
        "bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
    )
    (folder / "tokenizer.model").write_bytes(model)
    put(
        folder,
        "tokenizer_config.json",
        {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True},
    )
    return model


def gemma_model(folder: Path) -> bytes:
    model = sentencepiece_model(
        "bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        bos_piece="<bos>",
        eos_piece="<eos>",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n\n", "\t"],
    )
    (folder / "tokenizer.model").write_bytes(model)
    put(
        folder,
        "tokenizer_config.json",
        {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True},
    )
    return model


def t5_model(folder: Path) -> bytes:
    model = sentencepiece_model("unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (folder / "spiece.model").write_bytes(model)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 4})
    return model


def xlm_roberta_model(folder: Path) -> bytes:
    model = sentencepiece_model("unigram", normalization_rule_name="identity")
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})
    return model


def translation_vocab(pieces: list[str], first: list[str], last: list[str]) -> dict[str, int]:
    """A vocabulary in an order of its own, which lacks some of the pieces."""
    named = {*first, *last, "<s>", "</s>", "<unk>", "<pad>"}
    kept = [text for i, text in enumerate(pieces) if text not in named and i % 11]
    return {text: i for i, text in enumerate([*first, *kept[::2], *kept[1::2], *last])}


def marian_model(folder: Path) -> None:
    """opus-mt's form with several target languages: two models, and one vocabulary for both."""
    texts = []
    for name, size in (("source", SIZE), ("target", SIZE - 100)):
        model = sentencepiece_model("unigram", size, normalization_rule_name="identity")
        (folder / f"{name}.spm").write_bytes(model)
        spm = sentencepiece.SentencePieceProcessor(model_proto=model)
        texts += [spm.id_to_piece(i) for i in range(len(spm))]
    last = [">>fra<<", ">>deu<<", "<pad>"]
    vocab = translation_vocab([*dict.fromkeys(texts)], ["</s>", "<unk>"], last)
    put(folder, "vocab.json", vocab)
    config = {"source_lang": "en", "target_lang": "mul", "model_max_length": 512}
    put(folder, "tokenizer_config.json", config | {"separate_vocabs": False})
    put(folder, "config.json", {"model_type": "marian"})


def m2m_model(folder: Path) -> None:
    model = sentencepiece_model("bpe", normalization_rule_name="identity")
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    spm = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [spm.id_to_piece(i) for i in range(len(spm))]
    put(folder, "vocab.json", translation_vocab(pieces, ["<s>", "<pad>", "</s>", "<unk>"], []))
    codes = transformers.models.m2m_100.tokenization_m2m_100.FAIRSEQ_LANGUAGE_CODES["m2m100"]
    tokens = [f"__{code}__" for code in codes]
    put(folder, "special_tokens_map.json", {"additional_special_tokens": tokens})
    put(folder, "tokenizer_config.json", {"tokenizer_class": "M2M100Tokenizer"})


def mbart_model(folder: Path) -> bytes:
    model = sentencepiece_model("unigram", normalization_rule_name="identity")
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "MBartTokenizer"})
    return model


def nllb_file(folder: Path) -> None:
    """tokenizer.json, whose languages stand in another file's list."""
    space = pre_tokenizers.Metaspace(prepend_scheme="always")
    tok = trained(
        models.BPE(unk_token="<unk>", fuse_unk=True),
        trainers.BpeTrainer(vocab_size=SIZE, special_tokens=ROBERTA[:-1], show_progress=False),
        pre_tokenizer=space,
        decoder=decoders.Metaspace(prepend_scheme="always"),
    )
    codes = ["eng_Latn", "deu_Latn", "fra_Latn"]
    tok.add_special_tokens([AddedToken(code, normalized=False) for code in [*codes, "<mask>"]])
    tok.save(str(folder / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "NllbTokenizer", "additional_special_tokens": codes}
    put(folder, "tokenizer_config.json", config | {"src_lang": "eng_Latn"})


def albert_model(folder: Path) -> bytes:
    model = sentencepiece_model(
        "unigram",
        normalization_rule_name="identity",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]"],
        user_defined_symbols=["(", ")", "[MASK]"],
    )
    (folder / "spiece.model").write_bytes(model)
    config = {"tokenizer_class": "AlbertTokenizer", "do_lower_case": True}
    put(folder, "tokenizer_config.json", config)
    return model


def xglm_model(folder: Path) -> bytes:
    model = sentencepiece_model("unigram", normalization_rule_name="identity")
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    put(folder, "config.json", {"model_type": "xglm"})
    put(folder, "tokenizer_config.json", {"tokenizer_class": "XGLMTokenizer"})
    return model


def gpt_sw3_model(folder: Path) -> bytes:
    model = sentencepiece_model(
        "bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        eos_piece="<|endoftext|>",
        user_defined_symbols=["<|javascript|>", "<|python|>"],
    )
    (folder / "spiece.model").write_bytes(model)
    put(folder, "tokenizer_config.json", {"tokenizer_class": "GPTSw3Tokenizer"})
    return model


def plain_model(folder: Path) -> bytes:
    """A model of no class that is known: what the file says, and nothing else."""
    model = sentencepiece_model("unigram", byte_fallback=True, normalization_rule_name="identity")
    (folder / "tokenizer.model").write_bytes(model)
    return model


def by_sentencepiece(folder: Path, model: bytes) -> dict[str, Any]:
    """{what was asked: the ids of SentencePiece}, of texts that hold no special token."""
    spm = sentencepiece.SentencePieceProcessor(model_proto=model)
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    offset = 1 if folder.name.startswith(("xlm", "xglm", "mbart", "nllb")) else 0
    control = [i for i in range(len(spm)) if spm.is_control(i) or spm.is_unknown(i)]
    special = {*tok.special_tokens_map.values(), *map(spm.id_to_piece, control)}
    special -= {spm.id_to_piece(i) for i in range(len(spm)) if i not in control}
    found: dict[str, Any] = {}
    for i, text in enumerate(TEXTS):
        if any(token in text for token in special):
            continue
        if folder.name == "albert-model":
            letters = unicodedata.normalize("NFKD", text.replace("``", '"').replace("''", '"'))
            text = "".join(c for c in letters if unicodedata.category(c)[0] != "M").lower()
        if folder.name == "gpt-sw3-model":
            text = tok.preprocess_text(text)
        ids = spm.encode(text)
        if offset:
            ids = [number + offset if number else 3 for number in ids]
        found[f"text {i}, False"] = ids
        if folder.name == "plain-model":
            found[f"decode {i}"] = spm.decode(ids)
    return found


MAKERS: list[Callable[[Path], bytes | None]] = [
    wordpiece,
    wordpiece_vocab,
    byte_bpe_chat,
    byte_bpe_old_added,
    gpt2_files,
    opt_files,
    roberta_files,
    qwen2_files,
    clip_files,
    fallback_bpe,
    unigram,
    unigram_first,
    bpe_never,
    llama_model,
    gemma_model,
    t5_model,
    xlm_roberta_model,
    albert_model,
    xglm_model,
    gpt_sw3_model,
    plain_model,
    m2m_model,
    marian_model,
    mbart_model,
    nllb_file,
]


if __name__ == "__main__":
    main()
