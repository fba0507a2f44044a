"""That a trimmed model is compared with its original, and that what is wrong with one is seen."""

import pytest
import torch

from hf_paretokd.evaluation.proof import prove_trimming
from hf_paretokd.inference.decoding import translate
from hf_paretokd.models.files import load_checkpoint
from hf_paretokd.models.trimming import kept_pieces, names_of, piece_counts, trim_model, trim_tokenizer


@pytest.fixture(scope="module")
def original(students, sentences):
    """A model that knows 120 phrases."""
    return *load_checkpoint(students / "3-2"), sentences[:120]


def trimmed(original, folder, size=None, sources=None):
    """Trimmed for its phrases and for what it makes of them."""
    model, tokenizer, known = original
    sources = sources or known
    counts = piece_counts(tokenizer, sources, translate(model, tokenizer, sources))
    kept = kept_pieces(tokenizer, counts, (), size)
    small = trim_model(model, kept)
    return (small, trim_tokenizer(tokenizer, kept, small.config, folder / "small")), kept


def test_text_whose_pieces_are_kept_comes_out_the_same(original, tmp_path):
    small, kept = trimmed(original, tmp_path)
    proof = prove_trimming(original[:2], small, kept, original[2])
    assert (proof.sentences, proof.resegmented, proof.problem) == (120, 0, None)
    assert (proof.equal, proof.rechosen) == (120, 0)
    assert proof.dropped == {}


def test_dropped_pieces_are_counted_and_listed(original, tmp_path):
    small, kept = trimmed(original, tmp_path, sources=original[2][:60])
    assert len(small[1]) < len(original[1])
    proof = prove_trimming(original[:2], small, kept, original[2])
    assert proof.problem is None
    assert proof.resegmented > 10
    assert proof.sentences == proof.equal + proof.resegmented + proof.rechosen + len(proof.ties)
    assert set(small[1].get_vocab()).isdisjoint(proof.dropped)
    assert proof.dropped
    unseen = [line for line in original[2][60:] if set(original[1].tokenize(line)) & set(proof.dropped)]
    assert len(unseen) == proof.resegmented
    assert list(proof.dropped.values()) == sorted(proof.dropped.values(), reverse=True)


def test_outputs_that_need_a_dropped_piece_are_told_from_equal_ones(original, tmp_path):
    model, tokenizer, sources = original
    kept = kept_pieces(tokenizer, piece_counts(tokenizer, sources, translate(model, tokenizer, sources[:20])), ())
    small = trim_model(model, kept)
    proof = prove_trimming(
        original[:2], (small, trim_tokenizer(tokenizer, kept, small.config, tmp_path / "small")), kept, sources
    )
    known = {number for number, piece in names_of(tokenizer, True).items() if number in set(kept.target)}
    ids = (tokenizer(text_target=line)["input_ids"] for line in translate(model, tokenizer, sources))
    expected = sum(not set(each) <= known for each in ids)
    assert proof.rechosen == expected > 0
    assert (proof.resegmented, proof.problem) == (0, None)
    assert proof.equal + len(proof.ties) == 120 - expected


def test_nothing_is_left_to_compare_where_all_is_written_otherwise(original, tmp_path):
    small, kept = trimmed(original, tmp_path, sources=original[2][:1])
    changed = [line for line in original[2] if set(original[1].tokenize(line)) - set(small[1].get_vocab())][:5]
    proof = prove_trimming(original[:2], small, kept, changed)
    assert (proof.sentences, proof.resegmented, proof.equal, proof.problem) == (5, 5, 0, None)


@pytest.mark.parametrize("damage", ["rows", "bias", "layer"])
def test_a_model_that_was_moved_wrongly_is_seen(damage, original, tmp_path):
    small, kept = trimmed(original, tmp_path)
    with torch.no_grad():
        if damage == "rows":
            table = small[0].get_encoder().embed_tokens.weight
            table[5:-1] = table[5:-1].roll(1, 0)
        elif damage == "bias":
            small[0].final_logits_bias[0, 5:-1] += 60 * torch.arange(len(kept.target) - 6).remainder(2)
        else:
            small[0].model.encoder.layers[0].fc1.weight.mul_(40)
    proof = prove_trimming(original[:2], small, kept, original[2])
    assert "come out otherwise without a reason, such as" in proof.problem
