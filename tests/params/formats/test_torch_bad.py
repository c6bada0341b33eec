"""The reader of PyTorch's files: what a bad file gets. Good ones: test_torch.py."""

import ast
import json
import time
import warnings

import _children
import pytest
from _files import put, put_index, write_safetensors
from _paths import ROOT
from _torch_bad import BAD, ODD, ZIP
from _torch_files import EIGHT, legacy, one, tensor
from _turns import some_of

from flaxmodels.params import CheckpointError, open_checkpoint


# A million lists take a second; P13-pairs gets the same answer, and the child below opens both.
@some_of("case", [*BAD], *(BAD.keys() - {"P12-too-many"}))
def test_bad_file(case, tmp_path, monkeypatch):
    """With weights_only=False they are all read in one process, below."""
    content, message = BAD[case]
    path = put(tmp_path, "pytorch_model.bin", content)
    monkeypatch.chdir(tmp_path)
    start = time.process_time()
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(path)
    assert time.process_time() - start < 4
    said = str(caught.value)
    assert str(path) in said
    assert "\x1b" not in said and len(said) < 2000
    assert [file.name for file in tmp_path.iterdir()] == ["pytorch_model.bin"]  # no canary


@pytest.mark.parametrize("case", ODD)
def test_odd_objects_are_refused_or_left_out(case, tmp_path, monkeypatch):
    content, message = ODD[case]
    path = put(tmp_path, "checkpoint.pt", content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = open_checkpoint(path, weights_only=False)
    assert bool(said) == case.startswith("P25")  # a dict that is entered is said
    assert found.tensors.keys() == {"w"}
    assert found["w"].read().tobytes() == EIGHT
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


CHILD = """
import json, os, resource, sys, time, warnings
from flaxmodels.params import CheckpointError, open_checkpoint

warnings.simplefilter("ignore")  # to print one, Python opens the source
folder, found = sys.argv[1], []
for name in ("good-zip.bin", "good-strided.bin", "good-legacy.bin"):  # all that is loaded lazily
    for tensor in open_checkpoint(f"{folder}/{name}").tensors.values():
        tensor.read()
FORBIDDEN = ("exec", "compile", "import", "marshal", "pickle", "ctypes", "subprocess", "socket",
             "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.remove",
             "os.mkdir", "os.rename", "os.link", "os.symlink", "shutil", "tempfile")

def hook(event, args):
    if event.startswith(FORBIDDEN) or event == "open" and not str(args[0]).startswith(folder + "/"):
        found.append(f"{event} {args}")

names = sorted(os.listdir(folder))
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sys.addaudithook(hook)
errors = 0
unlike = []
for name in names:
    start = time.process_time()
    try:
        for tensor in open_checkpoint(f"{folder}/{name}", weights_only=False).tensors.values():
            tensor.read()
    except CheckpointError as error:
        errors, said = errors + 1, str(error)
        if f"{folder}/{name}" not in said or "\x1b" in said or len(said) >= 2000:
            unlike.append(said)
    if time.process_time() - start >= 4:
        unlike.append(f"{name} takes long")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
done = len(found), found[:9], errors, grown, unlike
os.write(1, json.dumps(done).encode())
"""


def test_nothing_is_run_opened_or_allocated_by_any_bad_file(tmp_path):
    """All files of the tables in one process that sees every import, call and open of its own."""
    files = BAD | ODD
    for i, (content, _) in enumerate(files.values()):
        put(tmp_path, f"{i}.bin", content)
    put(tmp_path, "good-zip.bin", ZIP)
    put(tmp_path, "good-strided.bin", one(tensor(None, 0, (2, 2), (0, 1))))
    put(tmp_path, "good-legacy.bin", legacy())
    (tmp_path / "elsewhere").mkdir()
    run = _children.run("-c", CHILD, tmp_path, cwd=tmp_path / "elsewhere")
    assert run.returncode == 0, run.stderr[-2000:]
    count, first, errors, grown, unlike = json.loads(run.stdout)
    assert count == 0 and not unlike, (first, unlike)
    assert errors == len(BAD) + 1  # the folder beside the files
    assert grown < 200 << 10  # KiB: a million opcodes of a list each
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("shard", ["evil.py", "evil.sh", "a.safetensors", "bin", "x.bin.exe"])
def test_hostile_P41_a_shard_of_another_kind(shard, tmp_path):
    put(tmp_path, shard, b"")
    put_index(tmp_path, {"w": shard}, "pytorch_model.bin.index.json")
    with pytest.raises(CheckpointError, match=f"'w' is said to be in '{shard}', which is no file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("format", ["model.safetensors", "flax_model.msgpack"])
def test_hostile_P41_in_every_format(format, tmp_path):
    put_index(tmp_path, {"w": "pytorch_model.bin"}, f"{format}.index.json")
    with pytest.raises(CheckpointError, match="which is no file of this format"):
        open_checkpoint(tmp_path)


def test_hostile_P42_nothing_that_runs_pickles_is_imported():
    allowed = {"collections", "dataclasses", "jax", "numpy", "re", "struct", "typing", "zlib"}
    names = set()
    for path in (ROOT / "params" / "formats" / "torch").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Name):
                assert node.id not in {"eval", "exec", "compile", "__import__"}
    assert names <= allowed


def test_hostile_I21_P42_a_bad_safetensors_file_does_not_lead_to_the_pickle(tmp_path):
    put(tmp_path, "pytorch_model.bin", ZIP)
    put(tmp_path, "model.safetensors", b"bad")
    with pytest.raises(CheckpointError, match="model.safetensors: 3 bytes is too small"):
        open_checkpoint(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", {})
    assert not open_checkpoint(tmp_path).tensors
    said = "no checkpoint: 'pytorch_model.bin' is there, .* leave out use_safetensors="
    with pytest.raises(CheckpointError, match=f"{said}.*; looked for model.safetensors, [^ ]*; "):
        (tmp_path / "model.safetensors").unlink()
        open_checkpoint(tmp_path, use_safetensors=True)
    assert open_checkpoint(tmp_path).tensors.keys() == {"w"}
