"""`tokenizer.json` gives the ids of the Marian tokenizer, on odd lines of many scripts."""

import json
import string
import unicodedata

import pytest
from odd import odd_lines
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, models, normalizers
from transformers import AutoTokenizer, MarianTokenizer, PreTrainedTokenizerFast

from hf_paretokd import LanguagePair, train_tokenizer
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.tokenizer_json import can_be_had, normalisation, tokenizer_json, write_tokenizer_json
from hf_paretokd.models.files import save_tokenizer

KINDS = {
    "joint": {"target_tags": "always"},
    "separate": {"joint": False},
    "normalised": {"byte_fallback": False},
}


@pytest.fixture(scope="module")
def lines(texts):
    return [side for text in texts["train"].values() for row in zip(text.sources, text.targets, strict=True) for side in row]


@pytest.fixture(scope="module", params=KINDS)
def made(request, texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, train_tokenizer(texts["train"], folder, vocab_size=900, **KINDS[request.param])


def spoilt(line, processor):
    """Whether a character that is replaced stands before a mark that combines with it, or joins others to one."""
    for place, character in enumerate(line):
        after = line[place + 1 : place + 2]
        joined = after and (unicodedata.combining(after) or unicodedata.category(after) in ("Mn", "Me", "Mc", "Cf"))
        if joined and processor.normalize(f"a{character}") != f"\u2581a{character}":
            return True
    return False


def parted(fast, slow, tokenizer):
    """Lines whose ids differ, those of equal score aside: other pieces between the same bytes and unknown words."""
    processor = tokenizer.spm_source

    def scored(ids):
        numbers = [processor.piece_to_id(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
        unscored = [each for each in numbers if processor.is_byte(each) or processor.is_unknown(each)]
        return unscored, sum(map(processor.get_score, numbers))

    rows = [row for row, (one, two) in enumerate(zip(fast, slow, strict=True)) if one != two]
    pairs = {row: (scored(fast[row]), scored(slow[row])) for row in rows}
    return [row for row, (one, two) in pairs.items() if one[0] != two[0] or abs(one[1] - two[1]) > 1e-3]


def test_ids_are_those_of_marian(made, lines):
    kind, tokenizer = made
    count = 100_000 if kind == "joint" else 10_000
    found = tokenizer_json(tokenizer)
    scores = [score for _, score in json.loads(found.to_str())["model"]["vocab"]]
    pieces = range(tokenizer.spm_source.get_piece_size())
    assert min(scores) == min(map(tokenizer.spm_source.get_score, pieces)), "by which unknown characters are dear"
    odd = [*odd_lines(lines, count, 1), "<0x41>", "a<0x4G> <0x4f><0xFF>", "\r\n x\u3000 \u2028y ", "", " ", "\u00a0\u0301x"]
    fast = [each.ids for each in found.encode_batch(odd)]
    slow = tokenizer(odd)["input_ids"]
    different = parted(fast, slow, tokenizer)
    if kind == "normalised":
        assert 0 < len(different) < len(odd) / 20
        different = [row for row in different if not spoilt(odd[row], tokenizer.spm_source)]
    assert [(odd[row], fast[row], slow[row]) for row in different[:3]] == []


def test_text_comes_back_as_from_marian(made, lines):
    kind, tokenizer = made
    found, odd = tokenizer_json(tokenizer), odd_lines(lines, 3000, 2)
    for ids in tokenizer(lines[:500] if kind == "normalised" else odd)["input_ids"]:
        assert found.decode(ids).strip() == tokenizer.decode(ids, skip_special_tokens=True)


def test_tags_stand_before_a_text(texts, tmp_path):
    tokenizer = train_tokenizer(texts["train"], tmp_path, vocab_size=900, target_tags="always")
    (tag,) = (each for each in tokenizer.get_vocab() if each.startswith(">>"))
    for line in (f"{tag} kupe", f"{tag}kupe", f"{tag}", f"{tag}  two words "):
        assert tokenizer_json(tokenizer).encode(line).ids == tokenizer(line)["input_ids"]


def test_entries_of_the_target_alone_write_no_source(tmp_path):
    """As where both sides have models of their own: a source is not written by pieces that only targets have."""
    rows = [(f"{each}{other}", f"q{each}{other}q") for each in string.ascii_lowercase for other in "xyz"]
    text = ParallelText(LanguagePair("xx", "yy"), "train", *map(list, zip(*rows, strict=True)))
    tokenizer = train_tokenizer(text, tmp_path, vocab_size=900, joint=False)
    found = tokenizer_json(tokenizer)
    for line in ("qaxq", "qbyq qq", "ax by"):
        assert found.encode(line).ids == tokenizer(line)["input_ids"]
    ids = tokenizer(text_target="qaxq")["input_ids"]
    assert found.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True)


def test_what_cannot_be_had_is_left_out(tokenizer, tmp_path):
    assert can_be_had(tokenizer)
    assert not can_be_had(tokenizer_json(tokenizer))
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "vocab.json"
    entries = json.loads(path.read_text())
    gone = next(piece for piece in entries if piece.isalpha())
    entries["other"] = entries.pop(gone)
    path.write_text(json.dumps(entries))
    lacking = MarianTokenizer.from_pretrained(tmp_path)
    assert not can_be_had(lacking)  # a piece that would be unknown
    write_tokenizer_json(lacking, tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    path.write_text(json.dumps({**tokenizer.encoder, "beyond a gap": len(tokenizer.encoder) + 5}))
    assert not can_be_had(MarianTokenizer.from_pretrained(tmp_path))


def test_a_rule_that_keeps_white_space_is_no_rule_for_it(lines, tmp_path):
    """As of models that were made elsewhere, without any rule for characters."""
    with (tmp_path / "plain.spm").open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            vocab_size=300,
            normalization_rule_name="identity",
            minloglevel=2,
        )
    processor = SentencePieceProcessor(model_file=str(tmp_path / "plain.spm"))
    found = Tokenizer(models.WordLevel({}, "<unk>"))
    found.normalizer = normalizers.Sequence(normalisation(processor))
    for line in ("a\tb  c ", " \u00a0x ", "\ufb01"):
        assert found.normalizer.normalize_str(line) == processor.normalize(line)


def test_a_model_has_both_forms(tokenizer, new_model, tmp_path):
    """Whoever loads the folder by transformers gets the Marian tokenizer, by its file the other."""
    save_tokenizer(tokenizer, tmp_path, new_model().config)
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is MarianTokenizer
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert fast("kupe", return_tensors=None)["input_ids"] == tokenizer("kupe")["input_ids"]
    assert (fast.pad_token_id, fast.eos_token_id, fast.unk_token_id) == (
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
    )
    again = AutoTokenizer.from_pretrained(tmp_path)
    again.save_pretrained(tmp_path / "again")
    assert "tokenizer_file" not in (tmp_path / "again" / "tokenizer_config.json").read_text()
