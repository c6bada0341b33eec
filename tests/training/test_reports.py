"""Reports of a training run: what is written, when it is fetched, what a run that goes on does."""

import importlib.util
import json
import math
import re
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _drawn import params_of, tiny_llama
from _paths import ROOT

import flaxmodels as fm
from flaxmodels import training
from flaxmodels.training.reports import lines, profiler, report


class Kept:
    """Keeps what is written."""

    def __init__(self):
        self.rows, self.is_closed = [], False

    def write(self, step, values):
        self.rows.append((step, dict(values)))

    def close(self):
        self.is_closed = True


def metrics(step):
    return {"loss": jnp.float32(4 / step), "count": jnp.int32(step), "finite": jnp.bool_(step != 3)}


def run(steps, folder=None, **how):
    kept = Kept()
    with training.Report(folder, sinks=[kept], **how) as reports:
        for step in steps:
            reports(step, metrics(step), tokens=8)
    assert kept.is_closed
    return kept.rows


def test_one_of_every_few_steps_is_reported_and_the_first(tmp_path, capsys):
    rows = run(range(1, 8), tmp_path, every=3)
    assert [step for step, _ in rows] == [1, 3, 6]
    assert rows[1][1]["loss"] == float(np.float32(4 / 3)) and rows[1][1]["finite"] is False
    assert "tokens/s" not in rows[0][1] and rows[1][1]["tokens/s"] > 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["step", "loss"] and table[1].split() == ["1", "4.0000"]
    assert table[2].split() == ["step", "loss", "tokens/s"]
    assert table[3].endswith("not finite: skipped") and table[4].split()[:2] == ["6", "0.6667"]
    found = lines.read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in found] == [1, 3, 6] and found[2]["count"] == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", "metrics.jsonl"]


def test_metrics_are_fetched_when_the_next_step_was_given(monkeypatch):
    fetched = []
    kept = Kept()
    monkeypatch.setattr(report, "_numbers", lambda x: fetched.append(x) or {})
    with training.Report(every=1, table=False, sinks=[kept]) as reports:
        for step in (1, 2, 3):
            reports(step, {"step": step})
            assert fetched == [{"step": i} for i in range(1, step)]
    assert fetched[-1] == {"step": 3} and len(kept.rows) == 3


def test_of_several_steps_in_an_execution_the_last_is_reported():
    kept = Kept()
    with training.Report(every=10, table=False, sinks=[kept]) as reports:
        for step in (4, 8, 12, 16, 20):
            reports(step, {"parts": {"logits": jnp.arange(step, dtype=jnp.bfloat16)}})
    assert [step for step, _ in kept.rows] == [4, 12, 20]
    assert kept.rows[1][1] == {"parts/logits": 11.0}
    with training.Report(table=False, sinks=[kept]) as reports:
        reports(1, {"logits": jnp.zeros((2, 3))})
        with pytest.raises(ValueError, match=r"metric 'logits' has the shape \(2, 3\)"):
            reports(2, {})
        with pytest.raises(ValueError, match="metrics are a list; expected {name: scalar}"):
            reports.held_out(2, [1.0])
        with pytest.raises(ValueError, match="metrics are traced: call the report outside of"):
            jax.eval_shape(lambda x: reports(1, {"loss": x}), 1.0)


def test_a_run_that_goes_on_replaces_the_steps_that_it_repeats(tmp_path):
    run(range(1, 9), tmp_path, every=2, table=False)
    path = tmp_path / "metrics.jsonl"
    with path.open("ab") as file:
        file.write(b'{"step": 10, "lo')  # a kill
    before = path.read_bytes().splitlines()
    run(range(5, 11), tmp_path, every=2, table=False)
    after = path.read_bytes().splitlines()
    assert after[:3] == before[:3] and [json.loads(x)["step"] for x in after] == [
        1,
        2,
        4,
        5,
        6,
        8,
        10,
    ]
    path.write_bytes(b"not ours\n" + path.read_bytes())
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1: expected an object with a step"):
        run([11], tmp_path, table=False)
    assert path.read_bytes().startswith(b"not ours\n") and b'"step": 10' in path.read_bytes()


def test_what_is_not_finite_is_null(tmp_path):
    with training.Report(tmp_path, table=False) as reports:
        reports(1, {"loss": jnp.float32("nan"), "grad_norm": jnp.float32("inf")})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "loss": None, "grad_norm": None}


def picture(path):
    """The pixels of a PNG of 8-bit RGB without filters, and its chunks' checksums held."""
    data, at, found = path.read_bytes(), 8, {}
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        assert data[at + 8 + length :][:4] == struct.pack(">I", zlib.crc32(kind + body))
        found[kind], at = body, at + 12 + length
    width, height = struct.unpack(">2I", found[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(height, 1 + width * 3)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_the_picture_shows_the_curves(tmp_path):
    rows = [{"step": i, "loss": 5 - i / 100} for i in range(0, 401, 20)]
    rows[3]["loss"] = float("nan")
    training.draw_curve([*rows, {"step": 400, "held_out_loss": 1.5}], tmp_path / "curve.png")
    pixels = picture(tmp_path / "curve.png").astype(int)
    blue = (abs(pixels - np.array([31, 119, 180])).sum(-1) < 30)[30:]  # below the names
    columns = np.flatnonzero(blue.any(0))
    assert columns.min() < 70 and columns.max() > 615
    heights = [np.flatnonzero(blue[:, x]).mean() for x in columns]
    assert (np.diff(heights) >= 0).all() and heights[-1] - heights[0] > 250  # it falls
    training.draw_curve([], tmp_path / "empty.png")
    assert (picture(tmp_path / "empty.png") == 255).mean() > 0.9


def test_events_are_those_that_tensorboard_reads(tmp_path):
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    run([1, 2], tmp_path, every=1, table=False, tensorboard=True)
    run([2, 3], tmp_path, every=1, table=False, tensorboard=True)
    found = []
    for path in sorted((tmp_path / "events").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    losses = [(e.step, v.simple_value) for e in found for v in e.summary.value if v.tag == "loss"]
    assert losses == [(i, float(np.float32(4 / i))) for i in (1, 2, 2, 3)]
    assert 2 in [e.step for e in found if e.HasField("session_log")]  # older ones from 2 on go


def test_what_cannot_be_reported_is_said(monkeypatch):
    for how in ({"tensorboard": True}, {"profile": (1, 1)}):
        with pytest.raises(ValueError, match="are written into a folder: give one"):
            training.Report(**how)
    with pytest.raises(ValueError, match="every is 0; expected at least 1"):
        training.Report(every=0)
    with pytest.raises(ValueError, match=r"profile=\(1, 0\); expected"):
        training.Report("folder", profile=(1, 0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"tensorboardX, .* pip install flaxmodels\[tensorboard\]"
    ):
        training.Report("folder", tensorboard=True)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"every": 2.5}, "every is 2.5; expected a whole number"),
        ({"profile": 5}, "profile=5; expected"),
        ({"profile": (1,)}, r"profile=\(1,\); expected"),
        ({"flops_per_token": -1}, "flops_per_token is -1; expected a number above 0"),
        ({"sinks": [3]}, r"sinks: 3 has no write\(step, values\) and close\(\)"),
        ({"table": "no"}, "table is 'no'; expected True or False"),
    ],
)
def test_what_makes_no_report_is_refused(how, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        training.Report(tmp_path, **how)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: a file; expected a folder for the report"):
        training.Report(tmp_path / "file")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"step": "3"}, "step is '3'; expected a whole number"),
        ({"step": 3.5}, "step is 3.5; expected a whole number"),
        ({"tokens": -5}, "tokens is -5; expected a number from 0"),
        ({"metrics": {"loss": "low"}}, "metric 'loss' is 'low'; expected a number"),
        ({"metrics": {"loss": 1j}}, "metric 'loss' is 1j; expected a number"),
        ({"metrics": {"step": 7}}, "metric 'step' is 7; expected a number"),
    ],
)
def test_what_is_no_line_is_refused(given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        with training.Report(tmp_path, every=1, table=False) as reports:
            reports(1, {"loss": 1.0})
            reports(**{"step": 2, "metrics": {"loss": 1.0}} | given)
    assert [line["step"] for line in lines.read_lines(tmp_path / "metrics.jsonl")] == [1]


def test_a_closed_report_takes_nothing(tmp_path):
    reports = training.Report(tmp_path, table=False)
    reports.close()
    reports.close()
    with pytest.raises(ValueError, match="the report is closed"):
        reports(1, {"loss": 1.0})


def test_a_run_that_goes_back_writes_its_steps_again(tmp_path):
    with training.Report(tmp_path, every=1, table=False, curve=False) as reports:
        for step in (1, 2, np.int64(3), jnp.int32(2), 3):
            reports(step, metrics(step), tokens=jnp.int32(8))
    assert [line["step"] for line in lines.read_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"step": true}', '{"step": 1.0}', "{}"])
def test_files_that_are_no_reports_are_left_as_they_are(text, tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(text + "\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1: expected an object with a step"):
        with training.Report(tmp_path, every=1, table=False, curve=False) as reports:
            reports(2, {"loss": 1.0})
    assert file.read_text() == text + "\n"


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 1e308), (2, -1e308)],
        [(1, 5e-324), (2, 0.0)],
        [(math.inf, 1.0), (math.nan, 2.0), (1, 3.0)],
        [(1, "low"), (2, [1]), (3, None)],
    ],
)
def test_what_a_picture_has_no_place_for_is_left_out(rows, tmp_path):
    found = [{"step": step, "loss": loss} for step, loss in rows]
    training.draw_curve(found, tmp_path / "loss.png", "loss")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_window_of_steps_is_traced(monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: said.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: said.append("stop"))
    window = profiler.ProfilerWindow(tmp_path, (2, 3))
    for step in range(1, 8):
        window.after_step(said.append(step))
    assert said == [1, 2, "start", 3, 4, 5, "stop", 6, 7]
    said.clear()
    with training.Report(tmp_path, profile=(0, 9), table=False) as reports:
        reports(1, {"loss": 1.0})
    assert said == ["start", "stop"]  # a run that is shorter


def test_only_the_main_process_reports(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    kept = Kept()
    how = {"tensorboard": True, "profile": (1, 1), "sinks": [kept]}
    with training.Report(tmp_path / "run", every=1, **how) as reports:
        reports(1, metrics(1), tokens=8)
        reports.held_out(1, metrics(1))
    assert kept.rows == []
    assert not (tmp_path / "run").exists() and capsys.readouterr().out == ""


def test_what_was_held_out_is_a_line_of_its_own(tmp_path, capsys):
    with training.Report(tmp_path, every=1) as reports:
        reports(1, metrics(1))
        reports.held_out(1, {"loss": jnp.float32(2.5)})
    first, second = lines.read_lines(tmp_path / "metrics.jsonl")
    assert first["loss"] == 4.0 and second == {"step": 1, "held_out_loss": 2.5}
    assert capsys.readouterr().out.splitlines()[-1].split() == ["1", "2.5000"]


def test_operations_of_a_token_are_6n_and_12lhqt():
    sizes = {"vocab_size": 64, "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2}
    config = tiny_llama(**sizes, tie_word_embeddings=False)
    untied = fm.LlamaForCausalLM(config)
    layers = untied.num_parameters(untied.abstract_params()) - 2 * 64 * 16
    head, square = 64 * 16, 2 * 4 * config.head_dim * 32
    assert training.flops_per_token(untied, 32) == 6 * (layers + head) + 12 * square / 2
    tied = fm.LlamaForCausalLM(config.replace(tie_word_embeddings=True))
    assert training.flops_per_token(tied, 32) == training.flops_per_token(untied, 32)
    bare = fm.LlamaModel(config)
    assert training.flops_per_token(bare, 32) == 6 * layers + 12 * square / 2
    bert = fm.BertModel(fm.BertConfig(**sizes, intermediate_size=16, max_position_embeddings=8))
    tables = (64 + 8 + 2) * 16
    layers = bert.num_parameters(bert.abstract_params()) - tables
    assert training.flops_per_token(bert, 32) == 6 * layers + 12 * square
    with pytest.raises(ValueError, match="T5ForConditionalGeneration: 6 N .* is of one stack"):
        training.flops_per_token(fm.T5ForConditionalGeneration(fm.T5Config(d_model=16)), 8)


def test_the_share_of_the_peak_is_of_all_devices(monkeypatch):
    class Device:
        def __init__(self, kind):
            self.device_kind = kind

    peaks = {"TPU v5 lite": 197e12, "TPU v5p": 459e12, "TPU v4": 275e12, "cpu": None}
    peaks |= {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H200": 989e12}
    peaks |= {"NVIDIA A100-SXM4-80GB": 312e12, "TPU v6 lite": 918e12, "Unknown": None}
    assert {kind: training.peak_flops(Device(kind)) for kind in peaks} == peaks
    assert (
        training.peak_flops() is None and report._peak_of([Device("TPU v4"), Device("cpu")]) is None
    )
    monkeypatch.setattr(report.time, "perf_counter", iter([10.0, 12.0, 16.0]).__next__)
    devices = [Device("NVIDIA A100-SXM4-80GB")] * 2
    rows = run([1, 2, 3], every=1, table=False, flops_per_token=78e12, devices=devices)
    assert [row.get("tokens/s") for _, row in rows] == [None, 4.0, 2.0]
    assert [row.get("MFU") for _, row in rows] == [None, 0.5, 0.25]


def test_the_snippet_of_the_page_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "training.md").read_text()
    section = page.split("\n## Reports\n")[1].split("\n## ")[0]
    (snippet,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fm.LlamaForCausalLM, "init_params", lambda self, *_, **__: params_of(self))
    exec(compile(snippet, "docs/training.md", "exec"), {})
    found = lines.read_lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in found] == [1, 2, 4, 5]
    assert found[3]["held_out_loss"] < found[0]["loss"]
