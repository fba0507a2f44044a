import pytest
import torch

from hf_paretokd import ModelConfig, build_model
from hf_paretokd.errors import RecipeError
from hf_paretokd.models.head import NEVER


def test_a_new_model_follows_marians_conventions(new_model, tokenizer):
    model = new_model()
    pad = tokenizer.pad_token_id
    assert pad == len(tokenizer) - 1 == model.config.decoder_start_token_id
    assert not model.get_input_embeddings().weight[pad].any()
    assert model.final_logits_bias[0, pad] == NEVER
    assert model.final_logits_bias[0, :pad].abs().sum() == 0


def test_residual_initialisation(new_model):
    """Embeddings N(0, 1/d), Xavier elsewhere, (2N)^-0.5 on the residual branches of each side."""
    model = new_model(d_model=64, encoder_layers=2, decoder_layers=8, encoder_ffn_dim=64, decoder_ffn_dim=64)
    xavier = (2 / (64 + 64)) ** 0.5
    assert model.get_input_embeddings().weight[:-1].std().item() == pytest.approx(64**-0.5, rel=0.03)
    for stack, layers in ((model.get_encoder(), 2), (model.get_decoder(), 8)):
        layer = stack.layers[0]
        for module, factor in (
            (layer.fc1, 1),
            (layer.fc2, 1),
            (layer.self_attn.v_proj, 1),
            (layer.self_attn.out_proj, 1),
            (layer.self_attn.q_proj, 0),
            (layer.self_attn.k_proj, 0),
        ):
            expected = xavier * ((2 * layers) ** -0.5 if factor else 1)
            assert module.weight.std().item() == pytest.approx(expected, rel=0.06)
            assert not module.bias.any()


def test_initialisation_is_seeded_and_named(new_model):
    first, again = (new_model(seed=1).model.encoder.layers[0].fc1.weight for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(new_model(seed=1).lm_head.weight, new_model(seed=2).lm_head.weight)
    fairseq, plain = new_model(initialisation="fairseq"), new_model(initialisation="transformers")
    layer = fairseq.model.encoder.layers[0]
    ratio = (layer.self_attn.q_proj.weight.std() / layer.self_attn.out_proj.weight.std()).item()
    assert ratio == pytest.approx(0.5**0.5, rel=0.15)
    assert plain.model.encoder.layers[0].fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    with pytest.raises(RecipeError, match="initialisation"):
        ModelConfig(initialisation="none")
    with pytest.raises(RecipeError, match="d_model"):
        ModelConfig(d_model=100, encoder_attention_heads=8)


def test_starting_from_a_checkpoint(new_model, tokenizer, tmp_path):
    model = new_model(seed=9)
    model.save_pretrained(tmp_path)
    again = build_model(ModelConfig(from_pretrained=str(tmp_path)), tokenizer, 0)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
