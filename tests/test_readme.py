"""The README's snippets run, from the top, in one process."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_snippets_run(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks) + "\nassert value > 0 and logits.shape[-1] == 256\n")
    result = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "The import statement " in result.stdout and "load plan of saved" in result.stdout
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) == 3
