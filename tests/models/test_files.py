import pytest
from families import BART_LIKE
from transformers import (
    MarianConfig,
    MarianMTModel,
)

from hf_paretokd.errors import ModelError
from hf_paretokd.models.files import check_vocabulary, load_model


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
