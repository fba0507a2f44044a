import pytest
import torch
from families import DEPTHS, FAMILIES, family, inputs

from hf_paretokd import Depth, extract_student, sliced
from hf_paretokd.errors import ModelError
from hf_paretokd.models.depth import widened
from hf_paretokd.models.slicing import model_depth
from hf_paretokd.models.states import depth_states


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


def test_candidates_are_widened_by_what_is_wanted_beside_the_rule():
    assert widened(Depth(3, 3), ["3-3", "3-2", "2-2"]) is None
    assert widened(Depth(3, 3), ["3-1", "2-2"]) == ["2-2", "3-1", "3-2", "3-3"]
    assert widened(Depth(2, 1), ["2-1"]) is None
    assert widened(Depth(2, 1), ["1-1"]) == ["1-1"], "the rule gives none"
    with pytest.raises(ModelError, match="depth 4-1"):
        widened(Depth(3, 3), ["4-1"])
