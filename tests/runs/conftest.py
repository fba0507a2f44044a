import json
from pathlib import Path

import pytest
import yaml
from commands import command

FIELDS = {
    "data": {"pairs": ["fr-en", "bs-en"], "target_tags": "always"},
    "tokenizer": {"vocab_size": 900},
    "model": {
        "encoder_layers": 3,
        "decoder_layers": 2,
        "d_model": 32,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "max_position_embeddings": 64,
    },
    "training": {
        "max_steps": 20,
        "eval_steps": 10,
        "logging_steps": 5,
        "max_tokens": 600,
        "learning_rate": 0.004,
        "warmup_steps": 5,
        "bf16": False,
        "disable_tqdm": True,
    },
    "card": {
        "license": "cc-by-4.0",
        "datasets": ["anna/phrases"],
        "limitations": ["Phrases only."],
        "test_name": "CLDR phrases",
    },
}


@pytest.fixture(scope="session")
def folder(text_folder, tmp_path_factory) -> Path:
    """A run of two pairs with two students."""
    place = tmp_path_factory.mktemp("sharing")
    raw = json.loads(json.dumps(FIELDS))
    raw["data"]["data_dir"] = str(text_folder)
    raw["training"]["output_dir"] = str(place / "run")
    (place / "recipe.yaml").write_text(yaml.safe_dump(raw))
    assert command("train", place / "recipe.yaml") == 0
    return place / "run"
