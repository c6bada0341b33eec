"""`flaxmodels inspect`: a table and a page of what a checkpoint holds, from headers alone."""

import html
import re
import shutil
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _files import write_safetensors
from _paths import GOLDENS, LLAMA

from flaxmodels import params as fp
from flaxmodels.commands import cli
from flaxmodels.commands import inspect as inspection
from flaxmodels.commands.convert import convert
from flaxmodels.params.formats.source import Tensor

FORMATS = ("torch/llama/sharded", "torch/llama/legacy", "tf/h5", "tf/sharded", "tf/gpt2")
BROWSERS = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module", params=["msgpack", "orbax"])
def written(request, tmp_path_factory):
    """A folder in a format that JAX writes, without its config."""
    folder = tmp_path_factory.mktemp(request.param)
    convert(LLAMA, folder, format=request.param, progress=False)
    (folder / "config.json").unlink()
    return folder


@pytest.fixture(autouse=True)
def no_weight_is_read(monkeypatch):
    def read(self, *args):
        raise AssertionError(f"{self.name} was read")

    monkeypatch.setattr(Tensor, "read", read)


def printed(capsys, *arguments):
    """The lines that `inspect` prints."""
    assert cli.main(["inspect", *map(str, arguments)]) == 0
    return [line.split("  ") for line in capsys.readouterr().out.splitlines()]


def cells(line):
    return [cell.strip() for cell in line if cell.strip()]


def test_a_row_per_tensor(capsys):
    rows = [cells(line) for line in printed(capsys, LLAMA)]
    assert rows[0] == ["module", "shape", "dtype", "bytes"]
    assert rows[2] == ["lm_head/weight", "(61, 24)", "float32", "5.86 kB"]
    source = fp.open_checkpoint(LLAMA)
    assert [row[0] for row in rows[2:-1]] == sorted(n.replace(".", "/") for n in source.tensors)
    count = sum(int(np.prod(tensor.shape)) for tensor in source.tensors.values())
    assert rows[-1][:2] == ["total", f"{count:,}"]


def test_a_row_per_module(capsys):
    rows = [cells(line) for line in printed(capsys, LLAMA, "--depth", "2")]
    assert [row[0] for row in rows[2:]] == [
        "lm_head",
        "model/embed_tokens",
        "model/layers",
        "model/norm",
        "total",
    ]
    assert rows[4][1:3] == ["18", "9,312"]


def test_layers_by_their_numbers(capsys, tmp_path):
    tensors = {f"h.{i}.w": np.ones(2, np.float32) for i in range(12)}
    path = write_safetensors(tmp_path / "a.safetensors", tensors)
    for options in ((), ("--depth", "2")):
        rows = [cells(line)[0] for line in printed(capsys, path, *options)][2:-1]
        assert [row.removesuffix("/w") for row in rows] == [f"h/{i}" for i in range(12)]


@pytest.mark.parametrize("folder", FORMATS)
def test_every_format_without_a_config(folder, capsys, tmp_path):
    shutil.copytree(GOLDENS / "formats" / folder, tmp_path / "a")
    (tmp_path / "a" / "config.json").unlink(missing_ok=True)
    rows = printed(capsys, tmp_path / "a")
    assert len(rows) == 3 + len(fp.open_checkpoint(tmp_path / "a").tensors)


def test_formats_that_jax_wrote(written, capsys):
    names = [cells(line)[0] for line in printed(capsys, written)]
    assert "model/layers/1/mlp/up_proj/kernel" in names


def test_a_mesh_shows_the_shardings_of_the_models_leaves(capsys, tmp_path):
    rows = [cells(line) for line in printed(capsys, LLAMA, "--mesh", "fsdp=8,tensor=1")]
    assert rows[0][-2:] == ["sharding", "bytes per device"]
    (row,) = [row for row in rows if row[0] == "model/layers/0/mlp/up_proj/kernel"]
    assert row[1:] == ["(24, 40)", "float32", "3.84 kB", "('fsdp', 'tensor')", "480 B"]
    assert cli.main(["inspect", str(LLAMA), "--mesh", "tensor=2"]) == 1
    assert "lm_head/kernel: dimension 'vocab' of size 61" in capsys.readouterr().err
    for mesh in ("tensor", "tensor=x", "=2", ""):
        assert cli.main(["inspect", str(LLAMA), f"--mesh={mesh or ','}"]) == 1
        assert "such as fsdp=4,tensor=2" in capsys.readouterr().err
    file = write_safetensors(tmp_path / "model.safetensors", {"a": np.ones(2)})
    assert cli.main(["inspect", str(file), "--mesh", "tensor=2"]) == 1
    assert "config.json" in capsys.readouterr().err


def test_what_cannot_be_inspected(capsys, tmp_path):
    assert cli.main(["inspect", str(LLAMA), "--html", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"flaxmodels: {tmp_path}: Is a directory\n"
    assert cli.main(["inspect", str(tmp_path)]) == 1
    assert f"{tmp_path}: no checkpoint" in capsys.readouterr().err


def test_a_large_model_is_quick(capsys, tmp_path):
    """80 layers, as sparse files would hold them: only the header is there to read."""
    leaf = jax.ShapeDtypeStruct((80, 8192, 28672), jnp.bfloat16)
    leaves = {f"model/layers/{i}/mlp/{n}/kernel": leaf for i in range(80) for n in "abcdefg"}
    start = time.process_time()
    assert len(inspection.table(leaves).splitlines()) == 3 + 560
    assert len(inspection.table(leaves, 3).splitlines()) == 3 + 80
    assert 1000 < len(inspection.page(leaves, "large")) < 1_000_000
    assert time.process_time() - start < 5


def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or pytest.skip(f"no browser on the PATH: {', '.join(BROWSERS)}")


# Puts what is visible, inside treescope's shadow roots too, where `--dump-dom` prints it. The page
# unpacks itself in a thread that the browser's virtual time does not wait for: hence the work.
COLLECT = """
<script>const poll = setInterval(() => {
  for (let i = 0; i < 3e6; i++);
  const shown = [...document.querySelectorAll("treescope-container")].map(
    node => [...node.shadowRoot.children].map(child => child.innerText).join("\\n"));
  if (!shown.join().includes("ShapeDtypeStruct")) return;
  clearInterval(poll);
  const text = document.body.innerText + shown.join("\\n");
  document.body.replaceChildren(Object.assign(document.createElement("pre"), {textContent: text}));
}, 20)</script>
"""


def rendered(page, tmp_path) -> str:
    """The text of a page as a browser without a network shows it."""
    program = browser()
    assert not re.search(r"(src|href)=|@import|url\(|https?:", page)
    (tmp_path / "shown.html").write_text(page.replace("</body>", f"{COLLECT}</body>"))
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=100000"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", str(tmp_path / "shown.html")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return html.unescape(run.stdout)


def test_a_page_in_a_browser(tmp_path, capsys):
    page = tmp_path / "page.html"
    printed(capsys, LLAMA, "--html", page)
    text = rendered(page.read_text(), tmp_path)
    assert f"<h1>{LLAMA}</h1>" in page.read_text() and str(LLAMA) in text
    for word in ("embed_tokens", "self_attn", "q_proj", "post_attention_layernorm", "lm_head"):
        assert f"'{word}'" in text
    for shape in ("(61, 24)", "(24, 40)", "(12, 24)", "(24,)"):
        assert f"ShapeDtypeStruct(shape={shape}, dtype=dtype('float32'))" in text
    assert "12,264" in text  # the table


def test_a_page_of_params(tmp_path):
    """Any tree: its values are not read, and a name is text."""

    class Leaf:
        shape, dtype = (3, 4), np.dtype(np.int8)

        def __array__(self, *args):
            raise AssertionError("read")

    leaves = ("<script>alert(1)</script>", "w", "w/absmax")  # the last is in no module `w`
    page = inspection.page({name: Leaf() for name in leaves} | {"b": jnp.ones(2)}, "<b>&title")
    assert "<script>alert" not in page and "<b>&title" not in page
    text = rendered(page, tmp_path)
    assert all(f"'{name}'" in text for name in leaves) and "<b>&title" in text


@pytest.mark.parametrize(
    "mesh", ["x", "fsdp", "fsdp=", "fsdp=0", "fsdp=-1", "fsdp=2,fsdp=2", "=2", "a=b"]
)
def test_a_mesh_that_is_none(mesh, capsys):
    assert cli.main(["inspect", str(LLAMA), "--mesh", mesh]) == 1
    assert f"mesh is {mesh!r}; expected axes and sizes" in capsys.readouterr().err
