"""A family of small models from a model that exists: every step once, in its order, through stops; and what is refused."""

import json
import os
import shutil

import pytest
import torch
from commands import command
from lookalikes import opus_like
from transformers import M2M100Config, M2M100ForConditionalGeneration

import hf_paretokd.runs.shrink as module
from hf_paretokd.errors import DataError, ModelError, RecipeError, TokenizerError
from hf_paretokd.evaluation.proof import Difference, TrimmingProof
from hf_paretokd.layout import StartLayout
from hf_paretokd.models.building import prepare_for_training
from hf_paretokd.models.depth import widened
from hf_paretokd.models.files import load_checkpoint, load_config
from hf_paretokd.models.slicing import config_depth
from hf_paretokd.runs.choose import candidates_of
from hf_paretokd.runs.recipe import load_recipe
from hf_paretokd.runs.run import Run
from hf_paretokd.runs.shrink import begun
from hf_paretokd.training.identity import weights_hash

FIELDS = ["--max_steps", "4", "--eval_steps", "2", "--logging_steps", "1", "--warmup_steps", "1", "--max_tokens", "800"]
FIELDS += ["--bf16", "false", "--disable_tqdm", "true", "--shrink.num_beams", "1", "--shrink.held_out", "10"]


@pytest.fixture(scope="module")
def place(texts, tmp_path_factory):
    """Models that exist, text in their source language, and parallel text."""
    folder = tmp_path_factory.mktemp("shrink")
    pair = next(iter(texts["train"].values()))
    sides = pair.targets[:300], pair.sources[:300]
    opus_like(folder / "model", *sides)
    opus_like(folder / "tags", *sides, tags=(">>fra<<", ">>bul<<"))
    opus_like(folder / "pickled", *sides, pickled=True)
    opus_like(folder / "uneven", *sides, separate=True, more=25)
    (folder / "mono.en").write_text("\n".join(sides[0][:90]) + "\n", "utf-8")
    (folder / "other.en").write_text("\n".join(sides[0][90:160]) + "\n", "utf-8")
    (folder / "parallel").mkdir()
    for split, rows in (("train", slice(160, 200)), ("validation", slice(200, 220)), ("test", slice(220, 245))):
        for language, lines in zip(("en", "fr"), sides, strict=True):
            (folder / "parallel" / f"{split}.{language}").write_text("\n".join(lines[rows]) + "\n", "utf-8")
    M2M100ForConditionalGeneration(
        M2M100Config(vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
                     decoder_attention_heads=1, encoder_ffn_dim=16, decoder_ffn_dim=16)
    ).save_pretrained(folder / "m2m")  # fmt: skip
    return folder


def recipe(place, model="model", *more, pairs="en-fr", text="mono.{source}"):
    """The same as a recipe, not begun."""
    given = [f"--model.from_pretrained={place / model}", f"--data.pairs=[{pairs}]", "--data.data_dir=null", "--output_dir=run"]
    given += [f"--shrink.text=[{json.dumps(f'{place}/{text}')}]", "--shrink.vocab_size=null", "--evaluation.depths=null"]
    path = next(each for each in module.Path(__file__).parents[2].glob("recipes/shrink.yaml"))
    return load_recipe(path, [*given, *FIELDS, *more])


def test_one_command_from_a_model_to_measured_students(students, sentences, tmp_path, monkeypatch):
    """From a model that knows what it translates, with its weights in the old form."""
    monkeypatch.chdir(tmp_path)
    known = load_checkpoint(students / "3-2")[0]
    shutil.copytree(students / "3-2", tmp_path / "known")
    torch.save(known.state_dict(), tmp_path / "known" / "pytorch_model.bin")
    (tmp_path / "known" / "model.safetensors").unlink()
    (tmp_path / "known" / "README.md").write_text("---\nlicense: cc-by-sa-4.0\n---\n# A model\n")
    (tmp_path / "mono.fr").write_text("\n".join(sentences[:90]) + "\n", "utf-8")
    words = ["shrink", "known", "--pairs", "fr-en", "--text", "mono.{source}", "--output", "run", *FIELDS]
    words += ["--shrink.pickled_weights", "--depths", "3-2", "2-2"]
    assert command(*words) == 0
    run, start = Run("run"), StartLayout(tmp_path / "run.start")
    original, tokenizer = load_checkpoint(start.original)
    assert weights_hash(original) == weights_hash(known), "written once as safetensors"
    record = json.loads(start.record.read_text())
    assert record["entries"] == [len(tokenizer), len(run.tokenizer)]
    assert len(run.tokenizer) < len(tokenizer)
    assert record["proof"]["equal"] == record["proof"]["sentences"] == record["distilled"]["lines"]["fr-en"]
    lines = {
        split: (start.text / "fr-en" / f"{split}.fr").read_text("utf-8").splitlines()
        for split in ("train", "validation", "test")
    }
    made = (start.distilled / "fr-en" / "train.fr").read_text("utf-8").splitlines()
    assert lines["validation"] + lines["test"] + lines["train"] == made, "held out in their order"
    assert (len(lines["validation"]), len(lines["test"])) == (10, 10)
    assert [member.title for member in run.scored] == ["3-2 original", "3-2 teacher", "3-2", "2-2"]
    assert [member.title for member in run.trained] == ["3-2 teacher", "3-2", "2-2"]
    kept = run.translations("fr-en")
    assert kept["original"] == kept["reference"], "its translations are the test text"
    assert {test.against for test in run.comparisons} == {"original"}
    for protocol, costs in (run.costs, run.int8_costs):
        assert {member.title for member in costs} == {"3-2 original", "3-2", "2-2"}
        sizes = {member.title: cost.megabytes for member, cost in costs.items()}
        assert sizes["2-2"] < sizes["3-2"] < sizes["3-2 original"], protocol
    page = run.layout.report.read_text("utf-8")
    for text in ("3-2 original", "int8 MB", "CTranslate2 int8, greedy", "against 3-2 original", "<b>2</b>models"):
        assert text in page
    assert [each.member.title for each in candidates_of(run, engine="ctranslate2", quantization="int8")[1]] == [
        "3-2 original",
        "3-2",
        "2-2",
    ]
    card = (run.folder / "students" / "2-2" / "README.md").read_text("utf-8")
    assert "license: cc-by-sa-4.0" in card
    assert f"Made from `known`: its vocabulary of {len(tokenizer)} entries was trimmed to {len(run.tokenizer)}" in card
    assert "90 sentences of monolingual text, their translations by the original (greedy" in card
    kept = load_recipe(run.layout.recipe, trainable=False)
    assert "shrink" not in kept.raw
    assert kept.training_fields["anchor"] == kept.model.from_pretrained == str(start.model).removeprefix(f"{tmp_path}/")
    assert (run.folder / "students" / "2-2" / "model.safetensors").is_file()
    before = {path: path.stat().st_mtime_ns for path in start.folder.rglob("*.safetensors")}
    assert command(*words, "--overwrite") == 0
    assert {path: path.stat().st_mtime_ns for path in start.folder.rglob("*.safetensors")} == before, "each step once"


def test_tags_of_the_model_are_put_before_the_text(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = begun(recipe(place, "tags", pairs="en-fra"))
    start = StartLayout(tmp_path / "run.start")
    tokenizer = load_checkpoint(start.model)[1]
    assert {each.before for each in built.directions(tokenizer).values()} == {">>fra<< "}
    assert [tag for tag in tokenizer.get_vocab() if tag.startswith(">>")] == [">>fra<<"]
    assert json.loads((start.distilled / "distilled.json").read_text())["tags"] == {"en-fra": ">>fra<< "}


def test_students_that_are_scored_are_trained(place, tmp_path, monkeypatch):
    """Also those that the rule of the method does not give, such as decoders of one layer."""
    monkeypatch.chdir(tmp_path)
    assert begun(recipe(place)).training.candidates is None
    depth = config_depth(load_config(StartLayout(tmp_path / "run.start").model).to_dict())
    shutil.rmtree(tmp_path / "run.start")
    built = begun(recipe(place, "model", f'--evaluation.depths=["{depth.encoder}-1", "{depth}"]'))
    assert f"{depth.encoder}-1" in built.training.candidates
    assert built.training.candidates == widened(depth, [f"{depth.encoder}-1"])


def test_parallel_text_joins_and_is_what_is_validated_and_tested(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun(recipe(place, "model", f"--data.data_dir={place / 'parallel'}"))
    text = StartLayout(tmp_path / "run.start").text / "en-fr"
    for split in ("validation", "test"):
        assert (text / f"{split}.fr").read_text("utf-8") == (place / "parallel" / f"{split}.fr").read_text("utf-8")
    train = (text / "train.fr").read_text("utf-8")
    assert train.endswith((place / "parallel" / "train.fr").read_text("utf-8"))
    assert len(train.splitlines()) > 100


def test_what_is_scored_is_not_trained_on(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "parallel", tmp_path / "parallel")
    known = (place / "mono.en").read_text("utf-8").splitlines()
    for language in ("en", "fr"):  # ten of the lines that are translated
        (tmp_path / "parallel" / f"test.{language}").write_text("\n".join(known[:10]) + "\n", "utf-8")
    begun(recipe(place, "model", "--data.data_dir=parallel"))
    train = (StartLayout(tmp_path / "run.start").text / "en-fr" / "train.en").read_text("utf-8").splitlines()
    assert not set(train) & set(known[:10])
    assert set(known[10:]) <= set(train)


@pytest.mark.parametrize("step", ["distill", "trim_model", "prove_trimming", "write_text", "training_recipe"])
def test_a_stop_between_steps_costs_the_step(step, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, step, lambda *words, **more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            begun(recipe(place))
    with monkeypatch.context() as patch:
        if step in ("write_text", "training_recipe"):
            patch.setattr(module, "trim_model", None)
        begun(recipe(place))
    start = StartLayout(tmp_path / "run.start")
    for other in (["--shrink.num_beams=2"], [f"--data.data_dir={place / 'parallel'}"]):
        with pytest.raises(DataError, match=r"run\.start: was begun otherwise \((shrink|data)\..* was .*, now .*\); remove it"):
            begun(recipe(place, "model", *other))
    with pytest.raises(DataError, match=r"was begun otherwise \(shrink\.text was"):
        begun(recipe(place, text="other.{source}"))
    same = (place / "mono.en").read_text("utf-8")
    (place / "mono.en").write_text(same.replace("\n", " !\n", 1), "utf-8")
    with pytest.raises(DataError, match=r"was made of other text, by another model or with other options; remove .*run\.start"):
        begun(recipe(place))
    (place / "mono.en").write_text(same, "utf-8")
    whole = tmp_path / "whole"
    whole.mkdir()
    monkeypatch.chdir(whole)
    begun(recipe(place))
    again = StartLayout(whole / "run.start")
    for mine, theirs in zip(*(load_checkpoint(each.model)[0].state_dict().values() for each in (start, again)), strict=True):
        assert torch.equal(mine, theirs)
    assert json.loads(start.record.read_text())["proof"] == json.loads(again.record.read_text())["proof"]


def test_a_model_whose_proof_fails_is_not_trained_from(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = TrimmingProof(9, broken=[Difference("a", "b", "c", 0, 1.0)])
    monkeypatch.setattr(module, "prove_trimming", lambda *words: broken)
    with pytest.raises(ModelError, match=r"model: 1 of 9 sentences come out otherwise without a reason, such as 'a'"):
        begun(recipe(place))
    assert not StartLayout(tmp_path / "run.start").record.exists()


def test_what_cannot_be_shrunk_is_said_before_any_text_is_read(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nothing = "nothing.{source}"
    for given, error, message in (
        (recipe(place, "m2m", text=nothing), ModelError, "m2m is a model of the family m2m_100; only Marian models are shrunk"),
        (
            recipe(place, "pickled", text=nothing),
            ModelError,
            r"holds no model\.safetensors; with --shrink\.pickled_weights the tensors of pytorch_model\.bin",
        ),
        (recipe(place, "tags", text=nothing, pairs="en-de"), RecipeError, "does not know >>de<<, but >>bul<<, >>fra<<"),
        (recipe(place, "nowhere", text=nothing), RecipeError, "nowhere: is not there; give a model"),
        (recipe(place, "model", "--shrink.text=[]"), RecipeError, r"shrink\.text: name files of text"),
        (recipe(place, "model", text=nothing), DataError, r"nothing\.en: no such file"),
        (recipe(place, "model", "--shrink.vocab_size=9"), RecipeError, r"vocab_size: 9 is below the \d+ special tokens"),
    ):
        with pytest.raises(error, match=message):
            begun(given)
        shutil.rmtree("run.start", ignore_errors=True)
    for more, message in (
        (f"--data.data_dir={place / 'nowhere'}", "nowhere is not a folder"),
        ("--data.max_length=9", r"data\.max_length: is not for a model that is shrunk"),
    ):
        with pytest.raises((DataError, RecipeError), match=message):
            begun(recipe(place, "model", more))
        shutil.rmtree("run.start", ignore_errors=True)
    with pytest.raises(RecipeError, match=r"shrink\.vocab_size: 0 is not 1 or more"):
        recipe(place, "model", "--shrink.vocab_size=0")
    spoilt = shutil.copytree(place / "pickled", tmp_path / "spoilt")
    (spoilt / "pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: its weights cannot be used"):
        begun(recipe(spoilt.parent, "spoilt", "--shrink.pickled_weights=true"))


class Malicious:
    """What a pickle could do if it were trusted."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_no_code_of_pickled_weights_is_run(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = shutil.copytree(place / "pickled", tmp_path / "bad")
    torch.save({"model.shared.weight": Malicious()}, bad / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: its weights cannot be used"):
        begun(recipe(tmp_path, "bad", "--shrink.pickled_weights=true", text=f"{place}/mono.{{source}}"))
    assert not (tmp_path / "pwned").exists()


def test_a_run_that_was_moved_keeps_what_its_original_has_made(place, tmp_path, monkeypatch, caplog):
    """The original's row stays where it cannot be loaded any more; other beams would need it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "model", tmp_path / "model")
    fields = ["--data.data_dir", place / "parallel", "--depths", "2-2", *FIELDS]
    words = ["shrink", "model", "--pairs", "en-fr", "--text", place / "mono.{source}", "--output", "run", *fields]
    assert command(*words) == 0
    rows = [row for row in Run("run").rows if row.model == "original"]
    assert {row.metric for row in rows} == {"bleu", "chrf", "sentences_per_second", "parameters"}
    shutil.rmtree(tmp_path / "model")
    shutil.move("run", tmp_path / "moved")
    assert command("evaluate", "moved") == 0
    assert "evaluation.original: model model: no usable checkpoint" in caplog.text
    kept = [row for row in Run("moved").rows if row.model == "original"]
    for row, same in zip(rows, kept, strict=True):
        assert row == same or row.metric == "sentences_per_second"
    assert {member.title for member in Run("moved").costs[1]} == {"3-3 original", "3-3 teacher", "2-2"}
    assert command("evaluate", "moved", "--evaluation.num_beams", 2) == 0
    assert [row for row in Run("moved").rows if row.model == "original"] == kept, "only printed"


def test_vocabularies_of_different_sizes_are_levelled(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = begun(recipe(place, "uneven"))
    model, tokenizer = load_checkpoint(built.model.from_pretrained)
    assert model.config.vocab_size == model.config.decoder_vocab_size == len(tokenizer.target_encoder)
    prepare_for_training(model)
    with pytest.raises(ModelError, match=r"vocabularies have \d+ and \d+ entries; paretokd shrink levels them"):
        prepare_for_training(load_checkpoint(place / "uneven")[0])


def test_a_pair_without_a_split_does_not_take_it_from_others(place, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validation", "test"):
        for side in ("en", "fra"):
            folder = tmp_path / "parallel" / "en-fra"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(place / "parallel" / f"{split}.{side[:2]}", folder / f"{split}.{side}")
    begun(recipe(place, "tags", "--data.pairs=[en-fra, en-bul]", "--data.data_dir=parallel"))
    text = StartLayout(tmp_path / "run.start").text
    own = (place / "parallel" / "test.fr").read_text("utf-8")
    assert (text / "en-fra" / "test.fra").read_text("utf-8") == own
    assert len((text / "en-bul" / "test.bul").read_text("utf-8").splitlines()) == 10
    assert "no parallel text for test (no text for en-bul" in caplog.text
    proof = json.loads(StartLayout(tmp_path / "run.start").record.read_text())["proof"]
    assert proof["sentences"] > 100, "of both pairs"


def test_where_a_model_lies_inside_a_folder(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "model", tmp_path / "all" / "big")
    built = begun(recipe(tmp_path, "all", "--model.subfolder=big", text=f"../{place.name}/mono.{{source}}"))
    assert built.evaluation.original == str(tmp_path / "all" / "big")
    for words, message in (
        (["--model.subfolder=small"], r"has no checkpoint in small \(model\.subfolder\)"),
        (["--model.subfolder=big", "--model.revision=main"], r"model\.revision: .*all is a folder"),
        ([f"--shrink.vocab_size={10**6}", "--model.subfolder=big"], r"vocab_size: 1000000 is not below the \d+ entries"),
    ):
        with pytest.raises((ModelError, RecipeError), match=message):
            begun(recipe(tmp_path, "all", *words, "--output_dir=other", text=f"../{place.name}/mono.{{source}}"))
    with pytest.raises(RecipeError, match=r"model\.subfolder: is of a checkpoint"):
        recipe(place, "model", "--model.from_pretrained=null", "--model.subfolder=big")


def test_an_option_of_a_later_step_makes_anew_what_depends_on_it(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = StartLayout(tmp_path / "run.start")
    for given, message in (
        ("--shrink.vocab_size=9", r"shrink\.vocab_size: 9 is below the \d+ special"),
        ("--shrink.held_out=60", r"shrink\.held_out: 60 leaves no text of en-fr"),
    ):
        with pytest.raises(RecipeError, match=message):
            begun(recipe(place, "model", given))
    made = (start.distilled / "distilled.json").stat().st_mtime_ns
    begun(recipe(place))
    whole = len(load_checkpoint(start.model)[1])
    begun(recipe(place, "model", f"--shrink.vocab_size={whole - 20}"))
    assert len(load_checkpoint(start.model)[1]) == whole - 20
    begun(recipe(place, "model", f"--shrink.vocab_size={whole - 20}", "--shrink.held_out=7"))
    assert len((start.text / "en-fr" / "test.en").read_text("utf-8").splitlines()) == 7
    assert (start.distilled / "distilled.json").stat().st_mtime_ns == made, "the translations stay"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("method: plain")
    with pytest.raises(DataError, match=r"was begun otherwise \(shrink\.held_out was 7, now 8\)"):
        begun(recipe(place, "model", f"--shrink.vocab_size={whole - 20}", "--shrink.held_out=8"))


def test_a_start_that_failed_is_in_nobodys_way(place, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.en").write_text("")
    for text, message in ((str(tmp_path / "nothing.en"), "no such file"), (str(tmp_path / "empty.en"), "empty.en: nothing to")):
        with pytest.raises(DataError, match=message):
            begun(recipe(place, "model", f"--shrink.text=[{text}]"))
    (tmp_path / "other.en").write_text("\u6f22 \u6f22 1 \u6f22\n\u6f22 2\n" * 20 + "a\n" * 9, "utf-8")
    monkeypatch.setattr(module, "kept_pieces", lambda *words: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        begun(recipe(place, "model", f"--shrink.text=[{tmp_path / 'other.en'}]"))
    assert "% of the text is unknown to the model; is it in its source language?" in caplog.text


def test_what_means_nothing_for_a_model_that_is_shrunk(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    for more, message in (
        ("--model.d_model=64", r"model\.d_model: is of new models"),
        ("--tokenizer.vocab_size=900", r"tokenizer\.vocab_size: is of new models"),
        ("--all_in_one.anchor=model", r"all_in_one\.anchor: is the trimmed model itself"),
        ("--output_dir=file", r"training\.output_dir: file is a file"),
        ("--shrink.engine=onnx", r"shrink\.engine: 'onnx' is not one of"),
    ):
        with pytest.raises(RecipeError, match=message):
            begun(recipe(place, "model", more))
    for name, message in (("source.spm", "source.spm is missing"), ("vocab.json", "vocab.json is damaged")):
        spoilt = shutil.copytree(place / "model", tmp_path / name.replace(".", "-"))
        (spoilt / name).unlink() if "missing" in message else (spoilt / name).write_text("{")
        with pytest.raises(TokenizerError, match=message):
            begun(recipe(tmp_path, spoilt.name, text=f"../{place.name}/mono.{{source}}"))


def test_a_whole_run_from_uneven_vocabularies_says_what_its_scores_are_worth(place, tmp_path, monkeypatch, caplog):
    """CTranslate2 does not take the original."""
    monkeypatch.chdir(tmp_path)
    words = ["shrink", place / "uneven", "--pairs", "en-fr", "--text", place / "mono.{source}", "--output", "run", *FIELDS]
    assert command(*words, "--depths", "2-2") == 0
    run = Run("run")
    assert "the original was not measured" in caplog.text
    assert {member.title for member in run.costs[1]} == {"3-3 original", "3-3 teacher", "2-2"}
    assert {member.title for member in run.int8_costs[1]} == {"3-3 teacher", "2-2"}
    said = "The references of en-fr are the original"
    assert said in run.layout.report.read_text("utf-8")
    assert said in (run.folder / "students" / "2-2" / "README.md").read_text("utf-8")
