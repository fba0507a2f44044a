import gzip
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_paretokd import LanguagePair, encode_split, train_tokenizer
from hf_paretokd.data.batches import PairBatches
from hf_paretokd.data.cache import digest
from hf_paretokd.data.corpus import DataConfig, ParallelText, load_text
from hf_paretokd.data.pairs import source_tags
from hf_paretokd.data.sampling import (
    MicroBatchSampler,
    MicroBatchStream,
    SamplerState,
    TemperatureSampling,
    expected_sampling,
    temperature_probabilities,
)
from hf_paretokd.data.tokenizer import check_text_tags
from hf_paretokd.errors import DataError, RecipeError, TokenizerError

DE_EN = LanguagePair("de", "en")


def read(folder, split="train", **fields):
    text = load_text(DataConfig(pairs=["de-en"], **{"data_dir": str(folder), **fields}), split)[DE_EN]
    return list(zip(text.sources, text.targets, strict=True)), text


# ---- reading ------------------------------------------------------------------------------------------------------------

LITERAL = [('er sagte "ja"', 'he said "yes"'), ("NA", "null"), ("a, b; c", "it's"), ("中文　字", "x\u2028y")]


def write_aligned(folder, rows, split="train", compress=False):
    folder.mkdir(parents=True, exist_ok=True)
    for column, language in enumerate(("de", "en")):
        data = ("\n".join(row[column] for row in rows) + "\n").encode()
        if compress:
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / f"{split}.{language}").write_bytes(data)


@pytest.mark.parametrize("place", ["", "de-en", "en-de"])
@pytest.mark.parametrize("compress", [False, True])
def test_aligned_files(tmp_path, place, compress):
    write_aligned(tmp_path / place, LITERAL, compress=compress)
    assert read(tmp_path)[0] == LITERAL


def test_other_formats_give_the_same_text(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.tsv").write_text("".join(f"{de}\t{en}\n" for de, en in LITERAL), "utf-8")
    (tmp_path / "de-en.jsonl").write_text("".join(json.dumps({"de": de, "en": en}) + "\n" for de, en in LITERAL), "utf-8")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"translation": {"de": de, "en": en}}) + "\n" for de, en in LITERAL))
    table = pyarrow.table({"de": [de for de, _ in LITERAL], "en": [en for _, en in LITERAL]})
    pyarrow.parquet.write_table(table, tmp_path / "c.parquet")
    for name in ("a.tsv", "{pair}.jsonl", "b.jsonl", "c.parquet"):
        assert read(tmp_path, train=name)[0] == LITERAL, name


def test_a_local_hub_data_set(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({"de": de, "en": en}) + "\n" for de, en in LITERAL), "utf-8")
    assert read(None, data_dir=None, hub=str(folder))[0] == LITERAL
    with pytest.raises(DataError, match="no-such"):
        read(None, data_dir=None, hub=str(tmp_path / "no-such"))


def test_carriage_returns_and_byte_order_marks_go(tmp_path):
    tmp_path.joinpath("train.de").write_bytes("\ufeffeins\r\nzwei\r\n".encode())
    tmp_path.joinpath("train.en").write_bytes(b"one\ntwo")
    assert read(tmp_path)[0] == [("eins", "one"), ("zwei", "two")]


def test_skips_are_counted_with_a_place(tmp_path):
    rows = [("a", "b"), ("", "empty"), ("c", "  "), ("a", "b"), ("d</s>", "e"), (">>en<< f", "g"), ("h", "i"), ("a", "other")]
    write_aligned(tmp_path, rows)
    write_aligned(tmp_path, rows, "test")
    found, text = read(tmp_path)
    assert found == [("a", "b"), ("h", "i"), ("a", "other")]
    assert text.skipped == {"empty side": 2, "duplicate pair": 1, "special token in the text": 2}
    assert text.examples["duplicate pair"].endswith("train.de:4")
    assert len(read(tmp_path, "test")[0]) == 4, "test text keeps its duplicates"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.de", b"gut\n\xff\xfe\n", r"train\.de:2: not UTF-8"),
        ("train.de", b"gut\nnul\0\n", r"train\.de:2: .*NUL"),
        ("train.de", b"eins\nzwei\ndrei\n", r"train\.de:3: no partner line; train\.de has 3 lines and train\.en has 2"),
        ("train.en", b"one\n", r"train\.de:2: no partner"),
        ("train.de", b"", r"no partner"),
        ("train.de", None, r"other side train\.de"),
    ],
)
def test_bad_aligned_files(tmp_path, name, content, message):
    write_aligned(tmp_path, [("eins", "one"), ("zwei", "two")])
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "eins\tone\nzwei\n", r"a\.tsv:2: expected source<TAB>target, found 1"),
        ("a.tsv", "eins\tone\tx\n", r"a\.tsv:1: .* found 3"),
        ("a.jsonl", '{"de": "x"\n', r"a\.jsonl:1: not JSON"),
        ("a.jsonl", '{"de": "x"}\n', r"a\.jsonl:1: field 'en' is missing"),
        ("a.jsonl", '{"de": "x", "en": 3}\n', r"a\.jsonl:1: field 'en' is not text"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected an object"),
        ("a.parquet", "no parquet", r"a\.parquet: not readable as parquet"),
        ("a.jsonl", "", "no usable sentence pair"),
    ],
)
def test_bad_other_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path, train=name)


def test_missing_places_and_broken_gzip(tmp_path):
    with pytest.raises(DataError, match="looked for"):
        read(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        read(tmp_path / "nothing")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path, train="a.tsv")
    write_aligned(tmp_path, LITERAL, compress=True)
    (tmp_path / "train.de.gz").write_bytes((tmp_path / "train.de.gz").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"train\.de\.gz: cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pairs": []}, "data.pairs"),
        ({"pairs": ["deen"]}, "deen"),
        ({"pairs": ["de-de"]}, "de-de"),
        ({"pairs": ["de-en", "de-en"]}, "2 times"),
        ({"target_tags": "often"}, "target_tags"),
        ({"data_dir": "x", "hub": "y"}, "exclude"),
        ({"train": "{lang}.tsv"}, "train"),
        ({"max_length": 1}, "max_length"),
    ],
)
def test_bad_data_sections(fields, message):
    with pytest.raises(RecipeError, match=message):
        DataConfig(**{"pairs": ["de-en"], **fields})


# ---- tags ---------------------------------------------------------------------------------------------------------------


def test_tags_only_where_needed_or_always():
    many_to_one = [LanguagePair("de", "en"), LanguagePair("fr", "en")]
    one_to_many = [LanguagePair("en", "de"), LanguagePair("en", "fr")]
    assert set(source_tags(many_to_one, "needed").values()) == {""}
    assert set(source_tags(many_to_one, "always").values()) == {">>en<< "}
    assert list(source_tags(one_to_many, "needed").values()) == [">>de<< ", ">>fr<< "]


# ---- tokenizer ------------------------------------------------------------------------------------------------------------

HARD = [
    '"quotes" «guillemets» ’apostrophe’',
    "two  spaces",
    "漢字 かな 한국어",
    "emoji 😀",
    "tab\there",
    "ﬁ ligature Ｆｕｌｌ",
    "zero\u200bwidth",
    "…",
    "ℌ𝔢𝔩𝔩𝔬",
]


@pytest.mark.parametrize("joint", [True, False])
def test_round_trip_is_exact(texts, tmp_path, joint):
    text = next(iter(texts["train"].values()))
    both = {LanguagePair("fr", "en"): text, LanguagePair("fr", "de"): text}
    tokenizer = train_tokenizer(both, tmp_path, 900, joint=joint)
    from transformers import AutoTokenizer

    for each in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        vocabulary = each.get_vocab()
        assert vocabulary["</s>"] == 0
        assert vocabulary["<unk>"] == 1
        assert each.pad_token_id == len(each) - 1 == max(vocabulary.values())
        assert {">>en<<", ">>de<<"} <= set(vocabulary)
        for line in [*HARD, *text.targets[:200]]:
            assert each.decode(each(text_target=line)["input_ids"], skip_special_tokens=True) == line
            assert each.unk_token_id not in each(line)["input_ids"]
        ids = each(">>de<< " + text.sources[0])["input_ids"]
        assert ids[0] == vocabulary[">>de<<"]
        assert ids[-1] == 0


def test_without_byte_fallback_text_is_normalised(texts, tmp_path):
    tokenizer = train_tokenizer(texts["train"], tmp_path, 500, byte_fallback=False)
    assert tokenizer.unk_token_id in tokenizer("漢")["input_ids"]
    assert tokenizer.decode(tokenizer(text_target="in  3  hours")["input_ids"], skip_special_tokens=True) == "in 3 hours"


def test_impossible_vocabularies_and_unknown_tags_are_refused(texts, tokenizer, tmp_path):
    with pytest.raises(TokenizerError, match="vocab_size"):
        train_tokenizer(texts["train"], tmp_path, 100)
    check_text_tags(tokenizer, [">>en<< x", "no tag"])
    with pytest.raises(TokenizerError, match=r">>zz<< is unknown to the tokenizer \(it knows >>en<<\)"):
        check_text_tags(tokenizer, [">>zz<< x"])
    pair = next(iter(texts["test"]))
    with pytest.raises(TokenizerError, match=">>xx<<"):
        encode_split({LanguagePair("fr", "xx"): texts["test"][pair]}, tokenizer, "always")


def test_over_long_sentences_are_counted(texts, tokenizer):
    pair, text = next(iter(texts["test"].items()))
    encoded = encode_split({pair: text}, tokenizer, max_length=25)[str(pair)]
    assert len(encoded) + text.skipped["more tokens than max_length"] == len(text)
    assert 0 < len(encoded) < len(text)
    assert max(map(len, encoded["input_ids"])) <= 25
    with pytest.raises(DataError, match="max_length"):
        encode_split({pair: text}, tokenizer, max_length=2)


# ---- micro-batches and their stream ------------------------------------------------------------------------------------------


@pytest.fixture
def lengths():
    generator = np.random.default_rng(0)
    source = generator.integers(2, 60, 1000)
    return source, np.clip(source + generator.integers(-8, 9, 1000), 2, 64)


def test_every_sentence_once_in_each_pass_within_the_budget(lengths):
    batches = PairBatches("de-en", lengths, 500, 1)
    passes = []
    for turn in range(3):
        rows = [batches.draw(turn * len(batches) + position) for position in range(len(batches))]
        assert sorted(np.concatenate(rows).tolist()) == list(range(1000))
        assert all(len(each) * max(lengths[0][each].max(), lengths[1][each].max()) <= 500 for each in rows)
        passes.append([tuple(each) for each in rows])
    assert passes[0] != passes[1]
    assert set(passes[0]) != set(passes[1]), "batches are mixed anew, not only shuffled"
    again = PairBatches("de-en", lengths, 500, 1)
    assert tuple(again.draw(2 * len(again) + 5)) == passes[2][5], "a draw needs no history"
    used = sum(len(each) * lengths[0][each].max() for each in batches.in_order())
    assert used < 1.15 * lengths[0].sum(), "little padding"


def test_a_sentence_beyond_the_budget_is_refused(lengths):
    with pytest.raises(DataError, match="max_tokens"):
        PairBatches("de-en", lengths, 40, 1)


WMT6 = {"tr": 5_000, "ro": 10_000, "et": 80_000, "zh": 400_000, "de": 1_500_000, "fr": 3_000_000}
TED8 = {
    "bos": 5_664,
    "mar": 9_840,
    "hin": 18_798,
    "mkd": 25_335,
    "ell": 134_327,
    "bul": 174_444,
    "fra": 192_304,
    "kor": 205_640,
}


@pytest.mark.parametrize(
    ("sizes", "temperature", "expected"),
    [
        (WMT6, 1, (0.001001, 0.002002, 0.016016, 0.080080, 0.300300, 0.600601)),
        (WMT6, 5, (0.076831, 0.088255, 0.133770, 0.184567, 0.240414, 0.276163)),
        (TED8, 1, (0.007391, 0.012840, 0.024529, 0.033059, 0.175281, 0.227629, 0.250934, 0.268336)),
        (TED8, 3, (0.055871, 0.067165, 0.083339, 0.092056, 0.160521, 0.175131, 0.180914, 0.185003)),
        (TED8, 1e9, (0.125,) * 8),
    ],
)
def test_temperature_sampling(sizes, temperature, expected):
    """D-1 and D-2."""
    assert list(temperature_probabilities(sizes, temperature).values()) == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def stream(lengths):
    pairs = {name: PairBatches(name, lengths, 500, 1) for name in ("de-en", "fr-en", "bs-en")}
    return MicroBatchStream(pairs, TemperatureSampling({"de-en": 60, "fr-en": 30, "bs-en": 10}, 1.0), 1, 0)


def take(batches, count):
    return [(b.number, b.pair, tuple(b.rows)) for b, _ in zip(batches, range(count), strict=False)]


CRITICAL = {5: 20.515, 7: 24.322}  # χ² at p = 0.001 by degrees of freedom


@pytest.mark.parametrize(("sizes", "temperature"), [(WMT6, 5), (TED8, 1), (TED8, 3)])
def test_sampling_frequencies_follow_the_equation(lengths, sizes, temperature):
    """PMD Eq. 2, by a χ² test with a fixed seed."""
    batches = PairBatches("any", lengths, 500, 1)
    stream = MicroBatchStream(dict.fromkeys(sizes, batches), TemperatureSampling(sizes, temperature), 1, 0)
    drawn, count = stream.advance(SamplerState(), 20_000).draws, 20_000
    roots = {pair: size ** (1 / temperature) for pair, size in sizes.items()}
    expected = {pair: count * root / sum(roots.values()) for pair, root in roots.items()}
    statistic = sum((drawn.get(pair, 0) - mean) ** 2 / mean for pair, mean in expected.items())
    assert statistic < CRITICAL[len(sizes) - 1]


@pytest.mark.parametrize(
    ("sizes", "temperature", "counts"),
    [
        (WMT6, 5, (383769, 440835, 668182, 921910, 1200867, 1379434)),
        (TED8, 3, (42816, 51471, 63866, 70547, 123015, 134211, 138644, 141777)),
    ],
)
def test_sentences_of_an_epoch(sizes, temperature, counts):
    """D-3: what a virtual epoch of the official code holds of each pair."""
    total, probabilities = sum(sizes.values()), temperature_probabilities(sizes, temperature)
    assert tuple(int(total * each) for each in probabilities.values()) == counts


def test_peers_have_streams_of_their_own(lengths):
    pairs = {name: PairBatches(name, lengths, 500) for name in ("de-en", "fr-en")}
    sizes = {"de-en": 90, "fr-en": 10}
    streams = [
        MicroBatchStream({n: b.rekeyed(1, peer) for n, b in pairs.items()}, TemperatureSampling(sizes, tau), 1, peer)
        for peer, tau in enumerate((1.0, 100.0))
    ]
    sampler = MicroBatchSampler(streams, lambda: [SamplerState(), SamplerState()], 0, 1)
    drawn = [batches for batches, _ in zip(sampler, range(400), strict=False)]
    assert not hasattr(sampler, "batch_size")
    assert all(first.number == second.number for first, second in drawn)
    shares = [sum(batches[peer].pair == "de-en" for batches in drawn) / 400 for peer in range(2)]
    assert shares == pytest.approx([0.9, 0.5], abs=0.07)
    rows = expected_sampling(streams, 400)
    assert [(row.peer, row.pair) for row in rows] == [(1, "de-en"), (1, "fr-en"), (2, "de-en"), (2, "fr-en")]
    seen = sum(len(batches[0].rows) for batches in drawn if batches[0].pair == "de-en")
    assert rows[0].sentences == pytest.approx(seen, rel=0.05)
    assert rows[0].passes == pytest.approx(seen / len(lengths[0]), rel=0.05)


def test_a_distribution_may_depend_on_the_state(lengths):
    class Alternating:
        def probabilities(self, state):
            behind = state.draws.get("a", 0) <= state.draws.get("b", 0)
            return {"a": float(behind), "b": float(not behind)}

    stream = MicroBatchStream({name: PairBatches(name, lengths, 500) for name in "ab"}, Alternating(), 3)
    assert stream.advance(SamplerState(), 300).draws == {"a": 150, "b": 150}


def test_the_stream_goes_on_from_any_state(stream):
    whole = take(stream.batches(SamplerState()), 300)
    middle = stream.advance(SamplerState(), 120)
    assert take(stream.batches(middle), 180) == whole[120:]
    assert stream.advance(stream.advance(SamplerState(), 50), 120) == middle


def test_processes_share_the_stream(stream):
    whole = take(stream.batches(SamplerState()), 300)
    parts = [take(stream.batches(SamplerState(), rank, 3), 100) for rank in range(3)]
    assert [part[index] for index in range(100) for part in parts] == whole


def test_collation(batch, encoded, tokenizer):
    rows = [encoded["train"]["fr-en"][index] for index in range(6)]
    for index, row in enumerate(rows):
        assert batch["input_ids"][index][batch["attention_mask"][index] == 1].tolist() == row["input_ids"]
        assert batch["labels"][index][batch["labels"][index] != -100].tolist() == row["labels"]
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
    assert torch.equal(batch["attention_mask"].sum(1), torch.tensor([len(row["input_ids"]) for row in rows]))


def test_several_targets_are_asked_for_by_tags(texts, tmp_path):
    """One-to-many and many-to-many: the tag is the first token of every source, at training as for a user."""
    text = next(iter(texts["train"].values()))
    turned = ParallelText(LanguagePair("en", "fr"), "train", text.targets, text.sources)
    pairs = {LanguagePair("fr", "en"): text, LanguagePair("en", "fr"): turned}
    tokenizer = train_tokenizer(pairs, tmp_path, 900)
    encoded = encode_split(pairs, tokenizer, max_length=96)
    for pair, tag in (("fr-en", ">>en<<"), ("en-fr", ">>fr<<")):
        first = encoded[pair][0]["input_ids"]
        assert first[0] == tokenizer.get_vocab()[tag]
        assert first == tokenizer(f"{tag} {pairs[LanguagePair.parse(pair)].sources[0]}")["input_ids"]
    alone = encode_split({LanguagePair("fr", "en"): text}, tokenizer, max_length=96)["fr-en"][0]["input_ids"]
    assert alone[0] != tokenizer.get_vocab()[">>en<<"], "one target needs no tag"


# ---- the cache of token ids ---------------------------------------------------------------------------------------------


def test_the_same_text_is_encoded_once(texts, tokenizer, monkeypatch):
    from hf_paretokd.data import encoding

    calls = []
    build = encoding.encode_pair
    monkeypatch.setattr(encoding, "encode_pair", lambda *arguments: calls.append(1) or build(*arguments))
    split = {pair: replace(text, skipped=Counter()) for pair, text in texts["test"].items()}
    first = encoding.encode_split(split, tokenizer, max_length=17)
    count, skipped = len(calls), {pair: text.skipped[encoding.TOO_LONG] for pair, text in split.items()}
    again = encoding.encode_split(split, tokenizer, max_length=17)
    assert len(calls) == count == 2
    assert {pair: text.skipped[encoding.TOO_LONG] for pair, text in split.items()} == {p: 2 * n for p, n in skipped.items()}
    for pair in first:
        assert first[pair][:] == again[pair][:]
        assert again[pair].cache_files, "memory-mapped"
    encoding.encode_split(split, tokenizer, max_length=18)
    encoding.encode_split(split, tokenizer, "always", max_length=17)
    pair, text = next(iter(split.items()))
    encoding.encode_split({pair: replace(text, targets=[*text.targets[:-1], "another end"])}, tokenizer, max_length=17)
    assert len(calls) == count + 5, "another length, another tag, another text"


def test_a_digest_knows_where_texts_end():
    assert digest(["ab", "c"]) != digest(["a", "bc"]) != digest(["abc"])
    assert digest(["a"], ["b"]) != digest(["a", "b"], [])
    assert digest("a", ["b"]) == digest("a", iter(["b"]))
