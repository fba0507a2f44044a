"""What the code must not contain, and what a run must not write."""

import ast
from pathlib import Path

import hf_paretokd

PACKAGE = Path(hf_paretokd.__file__).parent


def calls():
    """(file, line, dotted name, keyword arguments) of every call in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield (
                    path.name,
                    node.lineno,
                    ast.unparse(node.func),
                    {each.arg: ast.unparse(each.value) for each in node.keywords},
                )


def test_nothing_runs_code_from_elsewhere():
    forbidden = (
        "eval",
        "exec",
        "os.system",
        "os.popen",
        "pickle.load",
        "pickle.loads",
        "yaml.load",
        "joblib.load",
    )
    for file, line, name, keywords in calls():
        place = f"{file}:{line}"
        assert name not in forbidden, place
        assert name != "torch.load" or keywords.get("weights_only") == "True", place
        assert not name.startswith("subprocess."), place
        assert keywords.get("trust_remote_code", "False") == "False", place
        if name.startswith("Auto") and name.endswith(
            ".from_pretrained"
        ):  # else transformers asks, and takes any line for a yes
            assert "trust_remote_code" in keywords, place
        assert "shell" not in keywords, place


def test_models_are_read_from_safetensors_only():
    found = [keywords for _, _, name, keywords in calls() if name.endswith("ForSeq2SeqLM.from_pretrained")]
    assert found
    assert all(keywords.get("use_safetensors") == "True" for keywords in found)
