"""`checksums.json`: what it covers, and what it notices."""

import json
import os

import pytest
from _files import put
from _paths import LLAMA

import flaxmodels as fm
from flaxmodels import params as fp


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model, params = fm.LlamaForCausalLM.from_pretrained(LLAMA)
    folder = tmp_path_factory.mktemp("saved") / "s"
    model.save_pretrained(params, folder, max_shard_size="20KB", checksums=True)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def load(folder, **options):
    return fm.LlamaForCausalLM.from_pretrained(folder, progress=False, **options)


def test_every_file_is_listed(saved):
    listed = json.loads((saved / "checksums.json").read_text())["sha256"]
    assert listed.keys() | {"checksums.json"} == set(os.listdir(saved))
    load(saved, verify=True)


def test_O6_one_flipped_bit_is_noticed(copy):
    shard = copy / "model-00002-of-00003.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(
        fp.CheckpointError, match="sha256 .*checksums.json says .*not what was saved"
    ) as e:
        load(copy, verify=True)
    assert str(shard) in str(e.value)
    load(copy)  # without being asked, nobody looks


def test_config_and_index_are_covered(copy):
    for name in ("config.json", "model.safetensors.index.json"):
        before = (copy / name).read_text()
        (copy / name).write_text(before + " ")
        with pytest.raises(fp.CheckpointError, match=f"{name}: sha256"):
            load(copy, verify=True)
        (copy / name).write_text(before)


def test_a_file_that_is_not_listed(copy):
    manifest = copy / "checksums.json"
    values = json.loads(manifest.read_text())
    del values["sha256"]["model-00001-of-00003.safetensors"]
    manifest.write_text(json.dumps(values))
    with pytest.raises(fp.CheckpointError, match="00001.*: checksums.json does not list it"):
        load(copy, verify=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not a manifest: Expecting value"),
        ("[]", "not a manifest: no sha256"),
        ('{"sha256": []}', "not a manifest: no sha256"),
        ('{"sha256": {"a": 1}}', "not a manifest: no sha256"),
        ('{"sha256": {"a": "x", "a": "y"}}', "'a' appears twice"),
    ],
)
def test_bad_manifests(content, said, copy):
    put(copy, "checksums.json", content)
    with pytest.raises(fp.CheckpointError, match=said):
        load(copy, verify=True)


def test_no_manifest(copy):
    (copy / "checksums.json").unlink()
    with pytest.raises(fp.CheckpointError, match="checksums.json: cannot be opened"):
        load(copy, verify=True)


def test_O6_orbax_is_covered(tmp_path):
    model, params = load(LLAMA)
    model.save_pretrained(params, tmp_path, format="orbax", checksums=True)
    load(tmp_path, verify=True)
    data = max(tmp_path.rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with pytest.raises(fp.CheckpointError, match="sha256 .*not what was saved"):
        load(tmp_path, verify=True)
