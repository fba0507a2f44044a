import pytest

from hf_paretokd import translate
from hf_paretokd.errors import TokenizerError
from hf_paretokd.evaluation.proof import bare, beginning
from hf_paretokd.inference.decoding import decode_all, decoder_of


def test_translate_keeps_the_order_and_refuses_unknown_tags(trained, tokenizer, sentences):
    together = translate(trained, tokenizer, sentences, max_tokens=300)
    assert len(set(together)) > 100
    assert together[:5] == [translate(trained, tokenizer, [text])[0] for text in sentences[:5]]
    assert translate(trained, tokenizer, []) == []
    with pytest.raises(TokenizerError, match=">>zz<<"):
        translate(trained, tokenizer, [">>zz<< x"])


def test_output_that_never_ends_is_equal_too(new_model, tokenizer, sentences):
    """An untrained model fills all its room; both engines stop at the same token."""
    model = new_model().eval()
    ids = tokenizer(sentences[:10])["input_ids"]
    ours, theirs = (decode_all(decoder_of(model, tokenizer, engine), ids, 40) for engine in ("transformers", "ctranslate2"))
    start = beginning(model, tokenizer)
    ours, theirs = ([bare(row, start, model) for row in rows] for rows in (ours, theirs))
    assert ours == theirs
    assert max(map(len, ours)) == min(40, 2 * max(map(len, ids)) + 20) - 2


def test_what_a_model_says_of_generation_changes_nothing(trained, tokenizer, sentences, monkeypatch):
    """Sampling, several outputs a sentence and other lengths are asked for by whoever translates."""
    wanted = translate(trained, tokenizer, sentences[:3])
    for name, value in {"do_sample": True, "temperature": 0.5, "num_return_sequences": 3, "max_new_tokens": 2}.items():
        monkeypatch.setattr(trained.generation_config, name, value)
    assert translate(trained, tokenizer, sentences[:3]) == wanted
