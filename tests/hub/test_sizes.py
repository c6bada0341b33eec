"""A small file that costs much: what is larger than its kind ever is is not fetched."""

import time

import pytest
from _downloads import CONFIG, INDEX, NAME, asked, files_of, load, no_pauses, refused
from _paths import LLAMA, SHARDED
from loopback.web import serving

import flaxmodels as fm
from flaxmodels.documents.front_matter import merged_card
from flaxmodels.hub import remote as elsewhere
from flaxmodels.hub import session

LARGE = b" " * (17 << 20)


@pytest.mark.parametrize("name", [CONFIG, "generation_config.json"])
def test_hostile_16_a_large_configuration_is_not_fetched(name, hub):
    hub.commit(NAME, files_of(LLAMA) | {name: LARGE})
    with pytest.raises(fm.CheckpointError, match=f"{name}: {len(LARGE)} bytes; it has at most"):
        load()
    assert name not in asked(hub)


def test_hostile_16_a_large_index_is_not_fetched(hub, monkeypatch):
    monkeypatch.setattr("flaxmodels.params.formats.shard_index.LARGEST_JSON", 1 << 20)
    hub.commit(NAME, files_of(SHARDED) | {INDEX: LARGE})
    with pytest.raises(fm.CheckpointError, match=f"{INDEX}: {len(LARGE)} bytes; it has at most"):
        load()
    assert INDEX not in asked(hub)


def test_hostile_16_a_long_answer_ends(hub, monkeypatch):
    """The list of a repository, and the text of an error, are read into memory."""
    no_pauses(monkeypatch)
    hub.commit(NAME, files_of(LLAMA))
    monkeypatch.setattr(session, "_LONGEST_ANSWER", 100)
    refused(match="an answer of more than 100 bytes")


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("sized", [True, False])
def test_hostile_16_a_web_server(sized, ranges, hub, monkeypatch):
    if ranges and not sized:
        pytest.skip("a range has a size")
    no_pauses(monkeypatch)
    with serving(files_of(LLAMA) | {CONFIG: LARGE}) as web:
        web.ranges, web.sized = ranges, sized
        with pytest.raises(fm.CheckpointError, match=f"{CONFIG}: .* it has at most"):
            load(web.url)


def test_hostile_16_a_file_of_no_known_size_ends(hub, monkeypatch):
    no_pauses(monkeypatch)
    monkeypatch.setattr(elsewhere, "_MOST_UNSIZED", 1000)
    with serving(files_of(LLAMA)) as web:
        web.ranges = web.sized = False
        with pytest.raises(fm.CheckpointError, match="model.safetensors: .* it has at most 1000"):
            load(web.url)


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n"
for one, two in zip("abcdefghij", "bcdefghijk", strict=True):
    ALIASES += f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]\n"


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (ALIASES, "that refers to parts of itself"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "that refers to parts of itself"),
        ("- x\n" * 200_000, "more than"),
        ("[" * 5000, "cannot be read"),
    ],
    ids=["laughs", "merge", "long", "deep"],
)
def test_a_card_that_would_cost_much_stays(block, said):
    start = time.process_time()
    with pytest.warns(UserWarning, match=said):
        assert merged_card(f"---\n{block}\n---\ntext\n".encode(), {"tags": ["x"]}, str) is None
    assert time.process_time() - start < 2
