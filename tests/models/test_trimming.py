"""Vocabularies made smaller: what stays, that it is segmented and translated as before, and what is refused."""

import pytest
import torch
from lookalikes import opus_like
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import BartConfig, BartForConditionalGeneration

from hf_paretokd.data.pieces import is_unigram
from hf_paretokd.errors import ModelError, RecipeError
from hf_paretokd.models.files import check_vocabulary, load_checkpoint, save_model
from hf_paretokd.models.head import NEVER
from hf_paretokd.models.trimming import (
    UNUSED,
    Kept,
    kept_pieces,
    names_of,
    piece_counts,
    trim_model,
    trim_tokenizer,
    trimmed_pieces,
)

TAGS = (">>fra<<", ">>bul<<")


@pytest.fixture(scope="module")
def text(texts):
    """English and French sides of phrases."""
    pair = next(iter(texts["train"].values()))
    return pair.targets[:600], pair.sources[:600]


@pytest.fixture(scope="module", params=["shared", "tags", "separate", "uneven"])
def original(request, text, tmp_path_factory):
    tags = TAGS if request.param == "tags" else ()
    folder = tmp_path_factory.mktemp("opus") / request.param
    more = 30 if request.param == "uneven" else 0
    return opus_like(folder, *text, tags, separate=request.param in ("separate", "uneven"), more=more)


def trimmed(original, sources, targets, folder, languages=("fra",), size=None):
    model, tokenizer = load_checkpoint(original)
    kept = kept_pieces(tokenizer, piece_counts(tokenizer, sources, targets), languages, size)
    small = trim_model(model, kept)
    return model.eval(), tokenizer, kept, small, trim_tokenizer(tokenizer, kept, small.config, folder / "small")


def test_used_text_is_segmented_as_before_and_logits_are_those_of_the_kept_rows(original, text, tmp_path):
    sources, targets = text[0][:60], text[1][:60]
    model, tokenizer, kept, small, other = trimmed(original, sources, targets, tmp_path)
    assert len(kept.source) < len(tokenizer)
    assert kept.dropped == {}
    singles = {number for number, piece in names_of(tokenizer, False).items() if len(piece.removeprefix("▁")) <= 1}
    assert singles <= set(kept.source), "also characters that the text does not use"
    check_vocabulary(small, other)
    old, new = (each(list(sources), text_target=list(targets)) for each in (tokenizer, other))
    for side, rows in (("input_ids", kept.source), ("labels", kept.target)):
        assert [[rows[each] for each in ids] for ids in new[side]] == old[side]
    batch = [
        each.pad({"input_ids": ids["input_ids"][:8]}, return_tensors="pt") for each, ids in ((tokenizer, old), (other, new))
    ]
    starts = [torch.full((8, 1), each.config.decoder_start_token_id) for each in (model, small)]
    logits = [
        each(**ids, decoder_input_ids=start).logits[:, 0]
        for each, ids, start in zip((model, small), batch, starts, strict=True)
    ]
    known = [number for number, row in enumerate(kept.target) if row != UNUSED]
    assert torch.allclose(logits[0][:, [kept.target[number] for number in known]], logits[1][:, known], atol=1e-5)
    assert not torch.isnan(logits[1]).any()


def test_the_pad_is_last_and_zero_and_ids_have_moved(original, text, tmp_path):
    model, _, kept, small, other = trimmed(original, text[0][:60], text[1][:60], tmp_path)
    pad = len(kept.target) - 1
    config, generation = small.config, small.generation_config
    assert (config.pad_token_id, config.decoder_start_token_id, other.pad_token_id, config.eos_token_id) == (pad, pad, pad, 0)
    assert (generation.bad_words_ids, generation.pad_token_id) == ([[pad]], pad)
    for table in (small.get_encoder().embed_tokens, small.get_decoder().embed_tokens):
        assert len(table.weight) == pad + 1
        assert not table.weight[pad].any()
    assert torch.equal(small.final_logits_bias[0, :-1], model.final_logits_bias[0, kept.target[:-1]])
    assert len(other) == pad + 1
    save_model(small, other, tmp_path / "saved")
    again, words = load_checkpoint(tmp_path / "saved")
    assert words.get_vocab() == other.get_vocab()
    assert torch.equal(again.final_logits_bias, small.final_logits_bias)
    assert words("a b c")["input_ids"] == other("a b c")["input_ids"]


def test_a_size_takes_the_most_frequent_pieces_and_all_characters_of_the_text(original, text, tmp_path):
    _, tokenizer, kept, _, other = trimmed(original, *text, tmp_path, size=150)
    assert len(kept.source) == len(kept.target) == len(other) == 150
    counts = piece_counts(tokenizer, *text)
    used = counts[0] if tokenizer.separate_vocabs else counts[0] + counts[1]
    pieces = {names_of(tokenizer, False)[row] for row in kept.source if row != UNUSED}
    singles = {piece for piece in names_of(tokenizer, False).values() if len(piece.removeprefix("▁")) <= 1}
    assert {piece for piece in singles if set(piece) <= set("".join(used) + "▁")} <= pieces, "and by which others are written"
    gone = {piece: count for piece, count in used.items() if piece not in pieces}
    longer = [
        used[piece] for piece in pieces if len(piece.removeprefix("▁")) > 1 and piece in used and not piece.startswith("<")
    ]
    assert max(gone.values()) <= min(longer)
    assert all(kept.dropped[piece] >= count for piece, count in gone.items()), "on both sides together"
    assert list(kept.dropped.values()) == sorted(kept.dropped.values(), reverse=True)
    for line in text[0][:50]:
        unknown = [each.unk_token_id in each(line)["input_ids"] for each in (tokenizer, other)]
        assert unknown[1] <= unknown[0], "written by smaller pieces"
    for side in ("source", "target"):
        left = SentencePieceProcessor(model_file=str(tmp_path / "small" / f"{side}.spm"))
        assert left.get_piece_size() < 260


def test_tags_of_other_languages_go(text, tmp_path):
    folder = opus_like(tmp_path / "tags", *text, TAGS)
    *_, other = trimmed(folder, text[0][:60], text[1][:60], tmp_path)
    assert [tag for tag in other.get_vocab() if tag.startswith(">>")] == [">>fra<<"]
    assert other(">>fra<< a")["input_ids"][0] == other.get_vocab()[">>fra<<"]


def test_sides_of_different_need_have_as_many_entries(text, tmp_path):
    folder = opus_like(tmp_path / "separate", *text, separate=True)
    *_, kept, _, other = trimmed(folder, text[0], text[1][:3], tmp_path)
    assert len(kept.source) == len(kept.target)
    assert set(other.get_vocab()) != set(other.target_encoder)
    assert other.target_encoder["<pad>"] == other.encoder["<pad>"] == len(kept.target) - 1


def test_entries_that_nothing_uses_are_zero_and_never_chosen(text, tmp_path):
    """Where one side has too few pieces to be as long as the other."""
    model, tokenizer = load_checkpoint(opus_like(tmp_path / "separate", *text, separate=True))
    pad, rows = model.config.pad_token_id, [0, 1, 5, 6, 7]
    small = trim_model(model, Kept([*rows, pad], [0, 1, 5, UNUSED, UNUSED, pad], {}))
    table = small.get_decoder().embed_tokens.weight
    assert not table[3:].any()
    assert torch.equal(table[:3], model.get_decoder().embed_tokens.weight[[0, 1, 5]])
    assert torch.equal(small.get_encoder().embed_tokens.weight[:5], model.get_encoder().embed_tokens.weight[rows])
    assert (small.final_logits_bias[0, 3:] == NEVER).all()
    words = trim_tokenizer(tokenizer, Kept([*rows, pad], [0, 1, 5, UNUSED, UNUSED, pad], {}), small.config, tmp_path / "small")
    assert list(words.target_encoder)[3:5] == ["<unused3>", "<unused4>"]


def train_merges(lines, path):
    """A model of merged pairs."""
    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, vocab_size=120, model_type="bpe", minloglevel=2
        )
    return path.read_bytes()


def test_models_of_merged_pairs_are_refused(original, text, tmp_path):
    tokenizer = load_checkpoint(original)[1]
    tokenizer.spm_target = SentencePieceProcessor(model_proto=train_merges(text[0], tmp_path / "merges.spm"))
    with pytest.raises(ModelError, match="are not of unigrams; the vocabulary of others cannot be trimmed"):
        kept_pieces(tokenizer, piece_counts(tokenizer, text[0], []), ())


def test_what_is_refused(original, text, tmp_path):
    tokenizer = load_checkpoint(original)[1]
    counts = piece_counts(tokenizer, *text)
    merges = SentencePieceProcessor(model_proto=train_merges(text[0], tmp_path / "merges.spm"))
    assert (is_unigram(merges), is_unigram(tokenizer.spm_source)) == (False, True)
    with pytest.raises(RecipeError, match=r"vocab_size: 20 is below the \d+ special tokens, tags and characters"):
        kept_pieces(tokenizer, counts, (), 20)
    with pytest.raises(RecipeError, match="uses none of the model's pieces; is it in the model's languages"):
        kept_pieces(tokenizer, piece_counts(tokenizer, ["漢字"], ["漢字"]), ())
    other = BartForConditionalGeneration(BartConfig(vocab_size=9, d_model=16, encoder_layers=1, decoder_layers=1))
    with pytest.raises(ModelError, match="for Marian models only, not for bart"):
        trim_model(other, kept_pieces(tokenizer, counts, ()))


def test_sentencepiece_models_are_read_field_by_field(text, tmp_path):
    """Nothing but pieces goes, and those of other types stay; SentencePiece reads what is left."""
    folder = opus_like(tmp_path / "model", *text)
    whole = (folder / "source.spm").read_bytes()
    assert trimmed_pieces(whole, set(), None) == whole
    before = SentencePieceProcessor(model_proto=whole)
    names = [before.id_to_piece(number) for number in range(before.get_piece_size())]
    gone = {piece for piece in names[50:] if len(piece) > 1}
    after = SentencePieceProcessor(model_proto=trimmed_pieces(whole, gone | {"<unk>"}, None))
    left = [after.id_to_piece(number) for number in range(after.get_piece_size())]
    assert left == [piece for piece in names if piece not in gone], "<unk> is no ordinary piece"
    assert [after.get_score(number) for number in range(50)] == [before.get_score(number) for number in range(50)]
