import json

import pytest
import safetensors.torch
from families import BART_LIKE
from transformers import MarianConfig, MarianMTModel, T5Config

from hf_paretokd.errors import ModelError, TokenizerError
from hf_paretokd.models.files import (
    check_vocabulary,
    load_checkpoint,
    load_config,
    load_model,
    load_tokenizer,
    save_model,
    usable_length,
)


def test_foreign_vocabulary_and_corrupt_checkpoints_are_refused(new_model, tokenizer, tmp_path):
    other = MarianMTModel(MarianConfig(**{**BART_LIKE, "pad_token_id": 59, "decoder_start_token_id": 59}))
    with pytest.raises(ModelError, match="do not belong together"):
        check_vocabulary(other, tokenizer)
    new_model().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="no usable checkpoint"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="no usable checkpoint"):
        load_model(tmp_path / "missing")


def spoilt(new_model, folder, change):
    """A checkpoint whose weights were changed."""
    new_model().save_pretrained(folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file(change(weights), folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: {}, "its weights lack .* and .* more, which config.json has"),
        (lambda weights: {n: v for n, v in weights.items() if "encoder.layers.1.fc1" not in n}, r"lack .*fc1\.bias and 1 more"),
        (lambda weights: {f"module.{n}": v for n, v in weights.items()}, "its weights lack .* and .* more"),
        (lambda weights: {n: v * float("nan") for n, v in weights.items()}, "holds values that are no finite numbers"),
        (lambda weights: {n: v[..., :3].clone() if v.dim() > 1 else v for n, v in weights.items()}, "by config.json"),
    ],
)
def test_weights_that_are_not_all_there_are_refused(new_model, tmp_path, change, message):
    """What is missing would be random, and what is no number makes blank lines."""
    with pytest.raises(ModelError, match=message):
        load_model(spoilt(new_model, tmp_path, change))


def test_more_layers_in_the_configuration_than_in_the_weights_are_refused(new_model, tmp_path):
    new_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "encoder_layers": config["encoder_layers"] + 1}))
    with pytest.raises(ModelError, match=r"which config\.json has"):
        load_model(tmp_path)


def test_code_beside_a_model_is_not_run(tmp_path, monkeypatch):
    """Nor is anything asked, to which a line of text on standard input would be the answer."""
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = {"model_type": "mine", "auto_map": dict.fromkeys(("AutoConfig", "AutoModelForSeq2SeqLM"), "code.Mine")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["code.Mine", None]}}))
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail("was asked"))
    for load in (load_model, load_config, load_tokenizer):
        with pytest.raises((ModelError, TokenizerError), match="custom code"):
            load(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("positions", "told", "usable"), [(40, 96, 40), (200, 96, 96), (40, 10**30, 40), (None, 10**30, 512)])
def test_the_usable_length_is_saved_with_every_checkpoint(new_model, tokenizer, tmp_path, monkeypatch, positions, told, usable):
    monkeypatch.setattr(tokenizer, "model_max_length", told)
    if positions is None:
        assert usable_length(T5Config(), tokenizer) == usable
        return
    model = new_model(max_position_embeddings=positions)
    model.generation_config.max_length = 500
    assert usable_length(model.config, tokenizer) == usable
    save_model(model, tokenizer, tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == usable
    loaded, its_tokenizer = load_checkpoint(tmp_path)
    assert (its_tokenizer.model_max_length, loaded.generation_config.max_length) == (usable, usable)
    assert model.generation_config.max_length == 500, "the model in memory is as it was"
