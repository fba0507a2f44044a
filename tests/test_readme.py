"""The README's snippets run as they stand (with fewer updates)."""

import re
import shutil
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_three_snippets_work(tmp_path, monkeypatch, text_folder, capsys):
    snippets = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)
    assert len(snippets) == 3
    shutil.copytree(text_folder, tmp_path / "my" / "text")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for snippet in snippets:
        shorter = snippet.replace("max_steps=1300", "max_steps=4").replace("eval_steps=325", "eval_steps=2")
        exec(compile(shorter.replace("vocab_size=1500", "vocab_size=900"), "README.md", "exec"), names)
    assert "translation_text" in capsys.readouterr().out
    assert (tmp_path / "my" / "students" / "4-2" / "README.md").is_file()
