import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_paretokd import Depth, ModelConfig, build_model, extract_student, sliced
from hf_paretokd.errors import ModelError, RecipeError
from hf_paretokd.models.building import check_vocabulary, load_model
from hf_paretokd.models.head import NEVER, output_head, secure_pad_row
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.models.states import depth_states

BART_LIKE = {
    "vocab_size": 60,
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
    "dropout": 0.0,
}
FAMILIES = {
    "marian": lambda: MarianMTModel(MarianConfig(**{**BART_LIKE, "pad_token_id": 59, "decoder_start_token_id": 59})),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**BART_LIKE)),
    "mbart": lambda: MBartForConditionalGeneration(MBartConfig(**BART_LIKE)),
    "m2m100": lambda: M2M100ForConditionalGeneration(M2M100Config(**BART_LIKE)),
    "pegasus": lambda: PegasusForConditionalGeneration(PegasusConfig(**BART_LIKE)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(
            vocab_size=60,
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=3,
            num_decoder_layers=3,
            num_heads=2,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            dropout_rate=0.0,
        )
    ),
}
DEPTHS = ["3-3", "3-1", "2-2", "1-1", "1-3"]


def family(name):
    torch.manual_seed(0)
    model = FAMILIES[name]()
    for parameter in model.parameters():  # so that biases and norms matter
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    if name == "marian":
        secure_pad_row(model)
    return model.eval()


def inputs():
    torch.manual_seed(1)
    return {
        "input_ids": torch.randint(3, 58, (4, 9)),
        "labels": torch.randint(3, 58, (4, 7)),
        "attention_mask": torch.tensor([[1] * 9, [1] * 9, [1] * 6 + [0] * 3, [1] * 4 + [0] * 5]),
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_extraction_is_bit_equal_to_the_slice(name, tmp_path):
    model = family(name)
    for text in DEPTHS:
        student = extract_student(model, text)
        student.save_pretrained(tmp_path / text)
        loaded = type(model).from_pretrained(tmp_path / text).eval()
        assert model_depth(loaded) == Depth.parse(text)
        with torch.no_grad(), sliced(model, Depth.parse(text)):
            expected = model(**inputs()).logits
            assert torch.equal(student(**inputs()).logits, expected)
            assert torch.equal(loaded(**inputs()).logits, expected)
            if (name, text) == ("t5", "1-3"):
                continue  # transformers cannot generate with any T5 whose decoder is deeper than its encoder
            source = {key: value for key, value in inputs().items() if key != "labels"}
            greedy = model.generate(**source, max_length=12)
        assert torch.equal(student.generate(**source, max_length=12), greedy)
    assert model_depth(model) == Depth(3, 3), "slicing leaves the model whole"


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_states_of_all_depths_give_the_slices_logits(name, share):
    model = family(name)
    batch = inputs()
    batch["labels"][2, 4:] = -100
    head = output_head(model)
    found = {}
    with torch.no_grad():
        for depth, states in depth_states(model, batch, [Depth.parse(text) for text in DEPTHS], share):
            logits = torch.nn.functional.linear(states * head.scale, head.matrix, head.bias)
            with sliced(model, depth):
                expected = model(**batch).logits[batch["labels"] != -100]
            torch.testing.assert_close(logits, expected[:, : logits.shape[1]], rtol=1e-5, atol=1e-5)
            found[str(depth)] = tuple(states.shape)
    assert found == dict.fromkeys(DEPTHS, (25, 16))


@pytest.mark.parametrize("layers", range(2, 13))
def test_any_depth_trains_and_extracts(layers, new_model, batch):
    model = new_model(encoder_layers=layers, decoder_layers=layers)
    wanted = [Depth(layers, layers), Depth(layers, 2), Depth(2, 2)]
    states = dict(depth_states(model, batch, wanted))
    assert set(states) == set(wanted)
    assert model_depth(extract_student(model, Depth(layers, 2))) == Depth(layers, 2)


@pytest.mark.parametrize("text", ["7-2", "2-0", "x", "0-1", "2", "2-2-2", "-1-2", ""])
def test_wrong_depths_are_refused(text, new_model):
    with pytest.raises(ModelError, match="depth"):
        extract_student(new_model(), text)


def test_extraction_does_not_move_the_random_state(new_model):
    model = new_model()
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    extract_student(model, "2-2")
    assert torch.equal(torch.rand(3), expected)


# ---- building -----------------------------------------------------------------------------------------------------------


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
