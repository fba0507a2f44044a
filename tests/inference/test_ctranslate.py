import torch
from transformers import AutoModelForSeq2SeqLM

from hf_paretokd import translate
from hf_paretokd.inference.decoding import decode_all, decoder_of


def test_ctranslate2_agrees_with_generate(students, sentences, tokenizer):
    """As an engine for the results table: greedy output is the same, sentence by sentence."""
    for depth in ("3-2", "2-2"):
        model = AutoModelForSeq2SeqLM.from_pretrained(students / depth).eval()
        expected = translate(model, tokenizer, sentences)
        found = translate(model, tokenizer, sentences, decoder=decoder_of(model, tokenizer, "ctranslate2"))
        assert found == expected
    assert len(set(expected)) > 100


def test_a_decoder_leaves_the_threads_of_torch_alone(trained, tokenizer, sentences):
    """CTranslate2 takes its own number of threads for that of the process; then generate would be slower beside it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        decoder = decoder_of(trained, tokenizer, "ctranslate2")
        assert torch.get_num_threads() == 2
        ids = tokenizer(sentences)["input_ids"]
        found = decode_all(decoder, ids, 60, max_tokens=30)
    finally:
        torch.set_num_threads(threads)
    assert found == [decode_all(decoder, [row], 60)[0] for row in ids], "batches are done side by side, in the old order"
