"""Conversion with its proof, and translation of streams of lines."""

import json
import sys

import ctranslate2
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hf_paretokd import cli
from hf_paretokd.delivery import export as module
from hf_paretokd.delivery.export import Proof, QuantizationLoss, Sentences, bare, export_model, gap_before
from hf_paretokd.delivery.stream import LineTranslator, cleaned, split_long
from hf_paretokd.errors import DataError, ExportError, ModelError, TokenizerError
from hf_paretokd.evaluation.translation import decode_all, decoder_of


@pytest.fixture(scope="module")
def references(texts, short):
    return [next(iter(texts["train"].values())).targets[index] for index in short]


# ---- the proof


def test_an_export_is_proved_and_whole(trained, tokenizer, sentences, references, tmp_path):
    proof = export_model(trained, tokenizer, [Sentences("en", sentences, references)], tmp_path / "int8", "int8")
    assert (proof.sentences, proof.equal + len(proof.ties), proof.broken) == (150, 150, [])
    assert proof.equal >= 148
    (loss,) = proof.losses
    assert loss.sentences == 150
    assert loss.float32 > 90, "it knows these phrases by heart"
    names = {path.name for path in (tmp_path / "int8").iterdir()}
    assert {"model.bin", "config.json", "source.spm", "target.spm", "tokenizer_config.json", "proof.json"} <= names
    assert [path.name for path in tmp_path.iterdir()] == ["int8"], "nothing unfinished is left"
    assert json.loads((tmp_path / "int8" / "proof.json").read_text())["equal"] == proof.equal
    kept = AutoTokenizer.from_pretrained(tmp_path / "int8")
    translator = ctranslate2.Translator(str(tmp_path / "int8"))
    pieces = kept.convert_ids_to_tokens(kept(sentences[-1])["input_ids"])
    found = translator.translate_batch([pieces])[0].hypotheses[0]
    assert kept.decode(kept.convert_tokens_to_ids(found)) == references[-1]
    with pytest.raises(ModelError, match="--overwrite"):
        export_model(trained, tokenizer, [], tmp_path / "int8")
    with pytest.raises(ModelError, match="'int4' is not one of float32, int8"):
        export_model(trained, tokenizer, [], tmp_path / "int4", "int4")


def test_a_model_whose_pad_row_is_not_zero_is_not_exported(trained, tokenizer, sentences, references, tmp_path):
    """The trap of Marian: CTranslate2 converts it without a word and translates something else."""
    row = trained.get_input_embeddings().weight
    with torch.no_grad():
        row[-1] += 3.0
    try:
        with pytest.raises(ExportError, match=r"differs from generate's in \d+ of 150 sentences without a tie"):
            export_model(trained, tokenizer, [Sentences("en", sentences, references)], tmp_path / "out")
    finally:
        with torch.no_grad():
            row[-1] = 0
    assert not list(tmp_path.iterdir())


def test_a_quantization_that_costs_quality_is_not_exported(trained, tokenizer, sentences, references, tmp_path, monkeypatch):
    real = module.ctranslate.ctranslate_decoder

    def worse(folder, tokenizer):
        decoder = real(folder, tokenizer)
        if folder.name != "quantized":
            return decoder
        return lambda ids, longest, beams: [row[: len(row) // 2] for row in decoder(ids, longest, beams)]

    monkeypatch.setattr(module.ctranslate, "ctranslate_decoder", worse)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    texts = [Sentences("en", sentences, references)]
    with pytest.raises(ExportError, match=r"int8 loses \d+\.\d+ BLEU on 150 sentences"):
        export_model(trained, tokenizer, texts, tmp_path / "out", "int8", overwrite=True)
    assert (tmp_path / "out" / "mine").read_text() == "kept", "what was there stays if the new one fails"


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
    words = bare(found.sequences[0].tolist(), trained)
    for position in (0, 1, len(words)):
        logits = found.logits[position][0].clone()
        logits[trained.config.pad_token_id] = -torch.inf
        best = logits.log_softmax(-1).sort().values
        assert gap_before(trained, source, words[:position]) == pytest.approx((best[-1] - best[-2]).item(), abs=1e-4)


def test_output_that_never_ends_is_equal_too(new_model, tokenizer, sentences):
    """An untrained model fills all its room; both engines stop at the same token."""
    model = new_model().eval()
    ids = tokenizer(sentences[:10])["input_ids"]
    ours, theirs = (decode_all(decoder_of(model, tokenizer, engine), ids, 40) for engine in ("transformers", "ctranslate2"))
    assert [bare(row, model) for row in ours] == [bare(row, model) for row in theirs]
    assert max(len(bare(row, model)) for row in ours) == min(40, 2 * max(map(len, ids)) + 20) - 2


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


# ---- lines


@pytest.fixture(scope="module")
def echo(tokenizer):
    """Everything but the network: a decoder that gives back what it gets."""
    return LineTranslator(tokenizer, lambda ids, longest, beams: ids, limit=24, num_beams=1)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.text(alphabet="\r\t\v\f\x00\x1b\x85\u2028\u2029\ufeff ab", max_size=12),
            st.text(alphabet="ab. ", min_size=80, max_size=200),
        ).map(lambda text: text.replace("\n", " ").replace("<", "").encode("utf-8", "surrogatepass")),
        max_size=8,
    ),
    st.booleans(),
    st.integers(1, 5),
)
def test_as_many_lines_come_out_as_go_in(echo, lines, ended, buffer):
    content = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    raw = [line + b"\n" for line in content.split(b"\n")[:-1]] + (
        [content.split(b"\n")[-1]] if content.split(b"\n")[-1] else []
    )
    output = b"".join(echo.translate(raw, buffer))
    assert output.count(b"\n") == content.count(b"\n")
    text = output.decode()
    assert len(text.splitlines()) == len(text.split("\n")) - text.endswith("\n") - (not text)
    for row, (before, after) in enumerate(zip(raw, output.split(b"\n"), strict=False)):
        blank = not cleaned(before.decode("utf-8" if row else "utf-8-sig", "replace"))
        assert not (blank and after), "blank lines stay blank"


def test_long_lines_are_translated_in_pieces_or_refused(echo, tokenizer):
    text = "dans 3 heures. " * 20 + "x" * 200
    pieces = echo.pieces(text.strip(), "file:1")
    assert len(pieces) > 5
    assert all(echo.tokens(piece) <= echo.limit for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert pieces[0].endswith("heures."), "cut at the end of a sentence"
    strict = LineTranslator(echo.tokenizer, echo.decoder, echo.limit, long="refuse")
    produced = strict.translate([b"dans 3 heures\n", text.encode()], buffer=1, name="in.txt")
    assert next(produced) == b"dans 3 heures\n", "what came before is there"
    with pytest.raises(DataError, match=r"in\.txt:2: \d+ tokens, the model takes 24; --long split"):
        next(produced)
    assert split_long("abcdefgh", lambda piece: len(piece) <= 2) == ["ab", "cd", "ef", "gh"]
    assert split_long("aa bb cc", lambda piece: len(piece) <= 5) == ["aa bb", "cc"]
    assert split_long("aa bb. cc dd ee", lambda piece: len(piece) <= 9) == ["aa bb.", "cc dd ee"]


def test_damaged_bytes_are_replaced_and_named(echo, caplog, monkeypatch):
    monkeypatch.setattr("hf_paretokd.delivery.stream.logger.warning", lambda text: caplog.records.append(text))
    found = list(echo.translate([b"\xef\xbb\xbfdans\n", b"3 \xff heures\n", b"\xfe\n"], name="in.txt"))
    assert len(found) == 3
    assert found[0] == b"dans\n", "a byte order mark is no text"
    assert caplog.records == ["in.txt:2: not UTF-8; what cannot be read is replaced, here and further on"]


def test_unknown_tags_are_refused(echo, tokenizer):
    with pytest.raises(TokenizerError, match=">>zz<<"):
        list(LineTranslator(tokenizer, echo.decoder, 24, tag=">>zz<<").translate([b"dans\n"]))


# ---- the commands


def run(monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["paretokd", *map(str, words)])
    return cli.main()


def test_export_and_translate_as_commands(students, text_folder, tmp_path, monkeypatch, capfd):
    data = ["--data.pairs", "fr-en", "--data.data_dir", text_folder, "--data.target_tags", "always"]
    arguments = ["--to", "ctranslate2", "--output", tmp_path / "float32"]
    assert run(monkeypatch, "export", students / "2-2", *arguments) == 1
    assert "say where test text is: --data.pairs" in capfd.readouterr().err
    assert run(monkeypatch, "export", students / "2-2", *arguments, *data) == 0
    assert "40 of 40 sentences equal to generate's" in capfd.readouterr().out
    (tmp_path / "in.txt").write_bytes(b"dans 3 heures\n\n\x07\nil y a 2 jours")
    for model in (tmp_path / "float32", students / "2-2"):
        assert run(monkeypatch, "translate", model, tmp_path / "in.txt", "--output", tmp_path / "out.txt") == 0
        lines = (tmp_path / "out.txt").read_text().split("\n")
        assert len(lines) == 4
        assert lines[1:3] == ["", ""]
        assert lines[0]
    assert run(monkeypatch, "translate", students / "2-2", tmp_path / "in.txt", "--engine", "ctranslate2") == 0
    assert capfd.readouterr().out.split("\n") == lines, "both engines, to standard output"
    for words, message in (
        (("translate", students / "2-2", tmp_path / "none.txt"), "none.txt: no such file"),
        (("translate", students / "2-2", tmp_path / "in.txt", "--buffer", "0"), "--buffer: 0 is not 1 or more"),
        (("translate", tmp_path / "nowhere", tmp_path / "in.txt"), "nowhere: cannot be loaded"),
        (("translate", students / "2-2", tmp_path / "in.txt", "--to", "zz"), ">>zz<< is unknown to the tokenizer"),
        (("translate", tmp_path / "float32", tmp_path / "in.txt", "--engine", "transformers"), "is made for CTranslate2"),
        (("translate", students / "2-2", tmp_path / "in.txt", "--output", tmp_path / "no" / "x"), "cannot be written"),
    ):
        assert run(monkeypatch, *words) == 1
        assert message in capfd.readouterr().err.replace("\n", " ")
