"""Ciphers of source text, and micro-batches in them."""

import string

import pytest
import torch

from hf_paretokd.data.ciphers import Cipher, CipheredDataset
from hf_paretokd.data.corpus import text_of
from hf_paretokd.data.encoding import encode_split
from hf_paretokd.data.sampling import MicroBatch
from hf_paretokd.data.tokenizer import train_tokenizer
from hf_paretokd.errors import TokenizerError
from hf_paretokd.models.files import load_tokenizer


def shifted(text, key, letters):
    """ROT-k, a letter at a time."""
    return "".join(letters[(letters.index(each) + key) % len(letters)] if each in letters else each for each in text)


def test_a_cipher_turns_the_sorted_letters_of_the_text():
    cipher = Cipher.of(["Zoë, 3 cafés!", "bad z"], [1, 2])
    assert cipher.letters == "Zabcdfoszéë"
    assert cipher.enciphered("Zoë, 3 cafés!", 1) == "asZ, 3 dboëz!"
    for key in (1, 2):
        assert cipher.enciphered("bad café z?", key) == shifted("bad café z?", key, cipher.letters)
    assert list(cipher.all_forms(["bad"])) == ["bad", cipher.enciphered("bad", 1), cipher.enciphered("bad", 2)]
    assert Cipher.of([string.ascii_lowercase], [13]).enciphered("hello xylophone é", 13) == "uryyb klybcubar é"


@pytest.mark.parametrize(
    ("sources", "keys", "message"),
    [
        (["1 + 1 = 2"], [1], "cipher_keys: a cipher needs an alphabet, and the source text has no letters"),
        (["aaa"], [1], "needs an alphabet, and the source text has 1 letters"),
        (["abc"], [3], "3 are not different ciphers of 3 letters"),
        (["abc"], [1, 4], "1, 4 are not different ciphers of 3 letters"),
        (["abc"], [0], r"\[0\] are not different whole numbers from 1 on"),
        (["abc"], [1, 1], r"\[1, 1\] are not different whole numbers"),
        (["abc"], [True], r"\[True\] are not different whole numbers"),
        (["abc"], ["1"], r"\['1'\] are not different whole numbers"),
    ],
)
def test_no_cipher(sources, keys, message):
    with pytest.raises(TokenizerError, match=message):
        Cipher.of(sources, keys)


def test_ciphers_want_a_joint_vocabulary(texts, tmp_path):
    with pytest.raises(TokenizerError, match="cipher_keys: ciphers want one SentencePiece model"):
        train_tokenizer(texts["train"], tmp_path, vocab_size=900, joint=False, cipher_keys=[1])


def test_a_tokenizer_knows_its_cipher_wherever_it_is_loaded(ciphered_tokenizer, texts, tmp_path):
    ciphered_tokenizer.save_pretrained(tmp_path)
    sources = [source for text in texts["train"].values() for source in text.sources]
    assert Cipher.known_to(load_tokenizer(tmp_path)) == Cipher.of(sources, [1, 2])
    assert Cipher.known_to(None) is None


def test_a_vocabulary_of_ciphers_has_pieces_of_them(ciphered_tokenizer, tokenizer, texts):
    """Enciphered text is not spelled in letters, as with a vocabulary that was not made for it."""
    cipher, sources = Cipher.known_to(ciphered_tokenizer), next(iter(texts["train"].values())).sources[:200]
    enciphered = [cipher.enciphered(each, 2) for each in sources]
    plain, made, other = (
        sum(len(each.tokenize(line)) for line in text)
        for each, text in ((ciphered_tokenizer, sources), (ciphered_tokenizer, enciphered), (tokenizer, enciphered))
    )
    assert made < 1.3 * plain < other


@pytest.mark.parametrize("tags", ["never", "always"])
def test_micro_batches_hold_their_sources_in_cipher(ciphered_tokenizer, texts, tags):
    pair, text = next(iter(texts["train"].items()))
    options = {"target_tags": "always"} if tags == "always" else {}
    encoded = encode_split({pair: text}, ciphered_tokenizer, **options)
    cipher = Cipher.known_to(ciphered_tokenizer)
    data = CipheredDataset(encoded, ciphered_tokenizer.pad_token_id, ciphered_tokenizer, cipher, 96)
    for number, key in ((0, 1), (1, 2), (2, 1)):
        found = data.fetch(MicroBatch(number, str(pair), [0, 7, 3]))
        tag = f">>{pair.target}<< " if tags == "always" else ""
        lines = [tag + shifted(text.sources[row], key, cipher.letters) for row in (0, 7, 3)]
        expected = ciphered_tokenizer(lines, padding=True, return_tensors="pt")
        assert torch.equal(found["cipher_input_ids"], expected.input_ids)
        assert torch.equal(found["cipher_attention_mask"], expected.attention_mask)
        assert torch.equal(found["input_ids"], data.fetch(MicroBatch(9, str(pair), [0, 7, 3]))["input_ids"])


def test_what_is_too_long_in_cipher_is_cut_before_its_end(ciphered_tokenizer, texts):
    pair, text = next(iter(texts["train"].items()))
    cipher, encoded = Cipher.known_to(ciphered_tokenizer), encode_split({pair: text}, ciphered_tokenizer)
    rows = [ids for ids in encoded[str(pair)]["input_ids"] if len(ids) > 6][:3]
    whole, cut = (CipheredDataset(encoded, 0, ciphered_tokenizer, cipher, longest) for longest in (96, 5))
    for long, short in zip(whole.in_cipher(rows, 1), cut.in_cipher(rows, 1), strict=True):
        assert short == [*long[:4], ciphered_tokenizer.eos_token_id]


def test_what_looks_like_a_special_token_in_cipher_is_text(tmp_path):
    """`</r>` under one key is `</s>`, which a Marian tokenizer would take for the end."""
    rows = [
        {"xx": f"rs{string.ascii_lowercase[number % 26]} </r> word{number}", "en": f"a word {number}"} for number in range(80)
    ]
    text = text_of([{"translation": row} for row in rows], "xx-en")
    tokenizer = train_tokenizer(text, tmp_path, vocab_size=400, max_length=96, cipher_keys=[1])
    encoded, cipher = encode_split(text, tokenizer), Cipher.known_to(tokenizer)
    assert cipher.enciphered("</r>", 1) == "</s>"
    data = CipheredDataset(encoded, tokenizer.pad_token_id, tokenizer, cipher, 96)
    (row,) = data.in_cipher([encoded["xx-en"][0]["input_ids"]], 1)
    assert row.count(tokenizer.eos_token_id) == 1
    assert row[-1] == tokenizer.eos_token_id
