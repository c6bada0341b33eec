"""Model cards: what a new one says, and what a push adds to one that is there."""

import re
from pathlib import Path

import jax.numpy as jnp
import pytest
from _paths import GOLDENS, LLAMA
from _pushes import REPO
from _turns import some_of
from loopback import Fault

import flaxmodels as fm
from flaxmodels import auto
from flaxmodels import params as fp
from flaxmodels.commands.cli import main
from flaxmodels.documents.front_matter import merged_card

CLASSES = {
    "llama-causal-lm": "text-generation",
    "gpt2-double-heads": "text-generation",
    "bert-masked-lm": "fill-mask",
    "bert-multiple-choice": "multiple-choice",
    "bert-sequence-classification": "text-classification",
    "bert-next-sentence-prediction": None,
    "bert-model": "feature-extraction",
}


def parsed(text: str) -> dict:
    from huggingface_hub import ModelCard

    return ModelCard(text).data.to_dict()


def code_of(text: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return block


@pytest.mark.parametrize("golden", CLASSES)
def test_T8_the_task_is_that_of_the_class(golden, tmp_path):
    folder = str(GOLDENS / golden / "checkpoint")
    cls = auto.architecture(folder)
    config = fm.AutoConfig.from_pretrained(folder)
    data = parsed(fm.create_model_card(cls(config), tmp_path, "name").read_text())
    assert data.get("pipeline_tag") == CLASSES[golden]


# One that generates runs in test_card_command_in_a_folder_runs.
@some_of("golden", [*CLASSES], "bert-masked-lm")
def test_T8_the_snippet_of_a_pushed_card_runs(logged_in, golden):
    folder = str(GOLDENS / golden / "checkpoint")
    model, params = auto.architecture(folder).from_pretrained(folder, progress=False)
    model.push_to_hub(params, REPO, progress=False)
    text = logged_in.files(REPO)["README.md"].decode()
    scope: dict = {}
    exec(code_of(text), scope)
    assert type(scope["model"]) is type(model)
    found = scope["tokens"] if model.can_generate() else scope["outputs"]
    assert (found.shape == (1, 7)) if model.can_generate() else found is not None
    data = parsed(text)
    assert data.get("pipeline_tag") == CLASSES[golden]
    assert (data["library_name"], data["tags"]) == ("flaxmodels", ["flax", "jax"])
    assert f"`{type(model).__name__}`" in text and "safetensors" in text
    assert f"| {fp.num_parameters(params):,} |" in text and "| float32 |" in text


def test_T8_D14_every_argument_as_a_word_or_a_list(logged_in, pair, tmp_path):
    model = pair[0].add_model_tags("of-the-model")
    history = [{"step": i, "loss": 2 - i / 50, "accuracy": i / 100} for i in range(1, 101)]
    path = model.create_model_card(
        tmp_path / "new",
        "org/tuned",
        language=["en", "fr"],
        license="mit",
        tags="of-mine",
        finetuned_from="org/base",
        tasks=["text-generation", "more"],
        dataset_tags="glue",
        dataset=["GLUE"],
        dataset_args="mrpc",
        params=fp.to_bf16(pair[1]),
        history=history,
    )
    text = path.read_text()
    assert path == tmp_path / "new" / "README.md"
    data = parsed(text)
    results = data.pop("model-index")[0]
    assert data == {
        "language": ["en", "fr"],
        "license": "mit",
        "library_name": "flaxmodels",
        "tags": ["flax", "jax", "of-the-model", "more", "of-mine"],
        "base_model": "org/base",
        "pipeline_tag": "text-generation",
        "datasets": ["glue"],
    }
    assert results["name"] == "tuned"
    (result,) = results["results"]
    assert result["dataset"] == {"name": "GLUE", "type": "glue", "config": "mrpc"}
    assert {m["type"]: m["value"] for m in result["metrics"]} == {"loss": 0.0, "accuracy": 1.0}
    assert "| bfloat16 |" in text and f"[org/base]({logged_in.endpoint}/org/base)" in text
    rows = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 20 and rows[-1] == "| 100 | 0 | 1 |"
    with pytest.raises(FileExistsError, match="there is one already, and it stays"):
        model.create_model_card(tmp_path / "new", "org/tuned")
    assert path.read_text() == text


def test_T8_only_what_is_known_is_said(pair, tmp_path):
    text = fm.create_model_card(pair[0], tmp_path, "name", history=[]).read_text()
    assert set(parsed(text)) == {"library_name", "tags", "pipeline_tag"}
    assert "Training" not in text and "fine-tuned" not in text and "weights" not in text


@pytest.mark.parametrize(
    ("history", "dataset"),
    [
        ([{"step": 1, "loss": float("nan")}], "glue"),
        ([{"step": 1, "epoch": 2}], "glue"),
        ([{"loss": 1.0}], ["glue", "squad"]),
        ([{"loss": 1.0}], None),
    ],
)
def test_T8_metrics_that_are_none_or_of_which_data_set_is_not_known(
    pair, tmp_path, history, dataset
):
    text = fm.create_model_card(
        pair[0], tmp_path, "name", history=history, dataset_tags=dataset
    ).read_text()
    assert "model-index" not in parsed(text) and "## Training" in text


def test_T8_license_of_the_original(logged_in, pair, tmp_path):
    logged_in.commit("org/base", {"x": b"x"})
    say = Fault(
        "json", path="/api/models/org/base", value=lambda j: j | {"cardData": {"license": "mit"}}
    )
    logged_in.fault(say)
    for name, expected in (("said", "mit"), ("silent", None)):
        path = pair[0].create_model_card(tmp_path / name, "n", finetuned_from="org/base")
        assert parsed(path.read_text()).get("license") == expected
    asked = len(logged_in.requests)
    path = pair[0].create_model_card(tmp_path / "gone", "n", finetuned_from="org/absent")
    assert "license" not in parsed(path.read_text()) and len(logged_in.requests) == asked + 1
    logged_in.stop()
    path = pair[0].create_model_card(tmp_path / "down", "n", finetuned_from="org/base")
    assert parsed(path.read_text())["base_model"] == "org/base"


def test_T5_arguments_for_the_card(logged_in, pair):
    model, params = pair
    about = {"language": "en", "license": "mit", "dataset_tags": ["glue"], "tasks": "fill-mask"}
    model.push_to_hub(params, REPO, progress=False, **about)
    data = parsed(logged_in.files(REPO)["README.md"].decode())
    assert (data["language"], data["license"], data["datasets"]) == ("en", "mit", ["glue"])
    assert data["pipeline_tag"] == "fill-mask"


DATA = {"library_name": "flaxmodels", "tags": ["flax", "jax"], "pipeline_tag": "fill-mask"}
ABSENT = "library_name: flaxmodels\npipeline_tag: fill-mask\n"
BODY = "\n# Mine  \n\ttabs\n---\nlibrary_name: not here\n"
CARDS = {  # front matter -> what it becomes
    "license: mit\n": "license: mit\nlibrary_name: flaxmodels\ntags:\n- flax\n- jax\n"
    "pipeline_tag: fill-mask\n",
    "tags:\n- a\n": f"tags:\n- a\n- flax\n- jax\n{ABSENT}",
    "tags:\n  - a # why\n  - 'b'\nlicense: mit # as is\n": "tags:\n  - a # why\n  - 'b'\n  - flax\n"
    f"  - jax\nlicense: mit # as is\n{ABSENT}",
    "tags: [a, flax]\n": f"tags: [a, flax, jax]\n{ABSENT}",
    "tags: []\n": f"tags: [flax, jax]\n{ABSENT}",
    "tags: a\n": f"tags: [a, flax, jax]\n{ABSENT}",
    "tags:\nlicense: mit\n": f"tags: [flax, jax]\nlicense: mit\n{ABSENT}",
    "x:\n  tags:\n  - a\ntags:\n- b\n": f"x:\n  tags:\n  - a\ntags:\n- b\n- flax\n- jax\n{ABSENT}",
    "library_name: theirs\npipeline_tag:\ntags:\n- jax\n- flax\n": None,
    "license: mit\r\ntags:\r\n- a\r\n": "license: mit\r\ntags:\r\n- a\r\n- flax\r\n- jax\r\n"
    + ABSENT.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("block", CARDS)
def test_P8_T8_a_card_that_is_there_gets_what_it_lacks(block):
    line = "\r\n" if "\r\n" in block else "\n"

    def whole(block: str) -> bytes:
        return f"---{line}{block}---{line}{BODY}".encode()

    made = merged_card(whole(block), DATA, lambda: pytest.fail("there is one"))
    expected = CARDS[block]
    assert made == (None if expected is None else whole(expected))
    if made is not None:
        assert merged_card(made, DATA, str) is None


BROKEN = {
    "": "does not begin with metadata",
    "# Mine\n": "does not begin with metadata",
    "---\ntags: [a\n---\nbody\n": "cannot be read",
    "---\n- a\n- b\n---\n": "cannot be read",
    "---\ntags: 5\n---\n": "which is no list",
    "---\ntags: &x [a]\nmore: *x\n---\n": "nothing can be added",
    "---\ntags: |\n  a\n---\n": "nothing can be added",
    "---\n? tags\n: [a]\n---\n": "nothing can be added",
    "---\n{tags: [a], license: mit}\n---\n": "cannot be read|nothing can be added",
    "---\n1: a\n---\n": "cannot be read",
}


@pytest.mark.parametrize("text", BROKEN)
def test_T8_a_card_that_cannot_be_added_to_stays(logged_in, pair, text):
    logged_in.commit(REPO, {"README.md": text.encode()})
    with pytest.warns(UserWarning, match=f"README.md stays as it is: .*({BROKEN[text]})"):
        pair[0].push_to_hub(pair[1], REPO, progress=False)
    assert logged_in.files(REPO)["README.md"] == text.encode()
    assert "model.safetensors" in logged_in.files(REPO)


def test_T8_a_card_that_is_no_text_stays(logged_in, pair):
    logged_in.commit(REPO, {"README.md": b"---\ntags: [\xff]\n---\n"})
    with pytest.warns(UserWarning, match="README.md stays as it is: 'utf-8' codec"):
        pair[0].push_to_hub(pair[1], REPO, progress=False)


def test_T8_a_card_is_what_its_hash_says(logged_in, pair):
    """What the network makes of a card is not committed over it."""
    logged_in.commit(REPO, {"README.md": b"---\nlicense: mit\n---\nMine.\n"})
    before = logged_in.head(REPO)
    logged_in.fault(Fault("corrupt", path="*/README.md", after=25))
    with pytest.raises(fm.HubError, match="README.md: what came is not what the Hub's hash says"):
        pair[0].push_to_hub(pair[1], REPO, progress=False)
    assert logged_in.head(REPO) == before


def test_a_class_of_ones_own_is_imported_from_its_module(pair):
    from flaxmodels.checkpoints.publishing.model_card import CardInfo, model_card

    class Mine(fm.LlamaForCausalLM):
        pass

    text = model_card(Mine(pair[0].config), "org/mine", CardInfo())
    assert f"from {__name__} import Mine" in code_of(text)
    assert 'Mine.from_pretrained("org/mine")' in code_of(text) and "fm." not in code_of(text)


def test_card_command(tmp_path, capsys, pair):
    folder = tmp_path / "saved"
    pair[0].save_pretrained(fp.cast(pair[1], jnp.bfloat16), folder)
    arguments = ["--name", REPO, "--tag", "a", "--language", "en", "--license", "mit"]
    assert main(["card", str(folder), *arguments]) == 0
    path = Path(capsys.readouterr().out.strip())
    text = path.read_text()
    assert path == folder / "README.md"
    assert 'from_pretrained("org/name")' in text and "| bfloat16 |" in text
    assert "| 12,264 |" in text and "| weights | safetensors" in text
    data = parsed(text)
    assert (data["tags"], data["language"]) == (["flax", "jax", "a"], ["en"])
    assert main(["card", str(folder)]) == 1
    assert "there is one already" in capsys.readouterr().err
    assert path.read_text() == text
    assert main(["card", str(tmp_path)]) == 1


def test_card_command_in_a_folder_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA, progress=False)
    model.save_pretrained(params, "saved")
    assert main(["card", "saved"]) == 0
    scope: dict = {}
    exec(code_of(Path("saved/README.md").read_text()), scope)
    assert scope["tokens"].shape == (1, 7)
