import json

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_paretokd import Depth, LanguagePair, save_students, sliced
from hf_paretokd.errors import ModelError


def test_saved_students_are_whole_and_plain(trained, students, tokenizer, batch):
    for depth in ("3-2", "2-2"):
        names = {path.name for path in (students / depth).iterdir()}
        assert {
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "README.md",
            "vocab.json",
            "source.spm",
            "target.spm",
            "tokenizer.json",
            "tokenizer_config.json",
        } == names
        settings = json.loads((students / depth / "tokenizer_config.json").read_text())
        assert not {"is_local", "local_files_only", "name_or_path"} & set(settings)
        assert "custom_pipelines" not in (students / depth / "config.json").read_text()
        loaded = AutoModelForSeq2SeqLM.from_pretrained(students / depth).eval()
        loaded.set_attn_implementation("eager")  # as the teacher was set for training on a CPU
        with torch.no_grad(), sliced(trained, Depth.parse(depth)):
            assert torch.equal(loaded(**batch).logits, trained(**batch).logits)
        assert (
            AutoTokenizer.from_pretrained(students / depth)("dans 3 heures")["input_ids"]
            == tokenizer("dans 3 heures")["input_ids"]
        )


def test_students_are_not_overwritten_unasked(trained, students, tokenizer):
    with pytest.raises(ModelError, match="--overwrite"):
        save_students(trained, tokenizer, [Depth(2, 2)], students, "all_in_one")
    with pytest.raises(ModelError, match="depth 4-2"):
        save_students(trained, tokenizer, [Depth(4, 2)], students, "all_in_one", overwrite=True)
    save_students(trained, tokenizer, [Depth(2, 2)], students, "all_in_one", [LanguagePair("fr", "en")], overwrite=True)
