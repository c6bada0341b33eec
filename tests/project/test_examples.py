"""The programs of `examples/`, which users copy."""

import importlib.util

from _paths import ROOT

EXAMPLES = ROOT / "examples"


def program(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_program_has_a_test():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"finetune"}


def test_finetune_learns_and_continues_where_it_was_cut_off(tmp_path, capsys):
    main, folder = program("finetune").main, str(tmp_path / "run")
    assert main(["--steps", "10", "--folder", folder]) > 0.4
    assert main(["--steps", "20", "--folder", folder]) < 0.5
    steps = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert steps == ["step 1", "step 10", "step 20"]
