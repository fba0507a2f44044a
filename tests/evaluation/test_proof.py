import pytest
import torch

from hf_paretokd.evaluation.proof import Proof, QuantizationLoss, bare, beginning, gap_before


@pytest.mark.parametrize(
    ("sentences", "float32", "quantized", "p_value", "fine"),
    [
        (1000, 30.0, 29.7, 0.001, True),  # 0.3 is allowed, significant or not
        (1000, 30.0, 29.69, 0.5, False),
        (999, 30.0, 29.0, 0.06, True),  # on fewer sentences chance decides
        (999, 30.0, 29.9, 0.04, False),
        (999, 30.0, 31.0, 0.001, True),  # better is no loss
        (1000, 30.0, 31.0, 0.001, True),
    ],
)
def test_what_quantization_may_cost(sentences, float32, quantized, p_value, fine):
    loss = QuantizationLoss("en", sentences, round(float32, 3), quantized, p_value, "")
    assert loss.acceptable == fine
    assert (Proof("int8", losses=[loss]).problem is None) == fine


def test_the_gap_is_that_of_the_two_best_tokens(trained, tokenizer, sentences):
    """Teacher forcing on a prefix, beside generate's own scores."""
    source = tokenizer(sentences[40])["input_ids"]
    found = trained.generate(
        torch.tensor([source]), num_beams=1, max_length=60, output_logits=True, return_dict_in_generate=True
    )
    start = beginning(trained, tokenizer)
    words = bare(found.sequences[0].tolist(), start, trained)
    for position in (0, 1, len(words)):
        logits = found.logits[position][0].clone()
        logits[trained.config.pad_token_id] = -torch.inf
        best = logits.log_softmax(-1).sort().values
        assert gap_before(trained, source, [*start, *words[:position]]) == pytest.approx((best[-1] - best[-2]).item(), abs=1e-4)
