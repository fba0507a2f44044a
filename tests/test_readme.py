"""The README's snippets run as they stand (with fewer updates)."""

import re
import shutil
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"

SHORTER = {
    "max_steps=1300": "max_steps=4, max_tokens=600",
    "eval_steps=65": "eval_steps=2",
    "vocab_size=6000": "vocab_size=900",
}
SHORTER |= {"d_model=256": "d_model=64", "ffn_dim=1024": "ffn_dim=64"}


def test_the_three_snippets_work(tmp_path, monkeypatch, text_folder, capsys):
    snippets = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)
    assert len(snippets) == 3
    shutil.copytree(text_folder, tmp_path / "my" / "text")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for snippet in snippets:
        for old, new in SHORTER.items():
            snippet = snippet.replace(old, new)
        exec(compile(snippet, "README.md", "exec"), names)
    assert "translation_text" in capsys.readouterr().out
    assert (tmp_path / "my" / "students" / "6-2" / "README.md").is_file()
