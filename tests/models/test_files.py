import json

import pytest
from families import BART_LIKE
from transformers import MarianConfig, MarianMTModel, T5Config

from hf_paretokd.errors import ModelError
from hf_paretokd.models.files import check_vocabulary, load_checkpoint, load_model, save_model, usable_length


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
