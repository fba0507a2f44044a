import pytest
import torch

from hf_paretokd import ModelConfig, build_model
from hf_paretokd.errors import ModelError
from hf_paretokd.models.head import secure_pad_row


def test_a_drifted_pad_row_is_repaired_and_a_misplaced_one_refused(new_model, tokenizer, tmp_path):
    model = new_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[-1] = 0.3
    model.save_pretrained(tmp_path)
    repaired = build_model(ModelConfig(from_pretrained=str(tmp_path)), tokenizer, 0)
    assert not repaired.get_input_embeddings().weight[-1].any()
    model.config.pad_token_id = 5
    with pytest.raises(ModelError, match="<pad>"):
        secure_pad_row(model)
