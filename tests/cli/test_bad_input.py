"""What users get wrong: one error that says where and what to do, exit code not zero, nothing written before harmed."""

import gzip
import hashlib
import json
import shutil
import sys

import pytest
import safetensors.torch
import yaml
from commands import TINY
from lookalikes import family_like
from transformers import PLBartTokenizer

from hf_paretokd.cli import main as cli

LINES = "one line\nanother line\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, text_folder):
    """A finished run of an All-in-One teacher, its recipe, and the text."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(text_folder, folder / "text")
    recipe = {
        "method": "all_in_one",
        "data": {"pairs": ["bs-en"], "data_dir": "text"},
        "training": {"output_dir": "run"},
        "evaluation": {"depths": ["2-2"]},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["paretokd", "train", str(folder / "recipe.yaml"), *TINY])
        assert cli.main() == 0
    return folder


@pytest.fixture
def place(finished, tmp_path):
    """A copy that may be spoilt; the run in it is what must survive."""
    shutil.copytree(finished, tmp_path / "place", symlinks=True)
    return tmp_path / "place"


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def shrunk(model, *more):
    """Words of `paretokd shrink` with text in Bosnian; later ones count."""
    text = () if "--text" in more else ("--text", "{place}/mono.bs")
    pairs = () if "--pairs" in more else ("--pairs", "bs-en")
    return ("shrink", model, *pairs, *text, "--output", "{place}/out", "--shrink.num_beams", "1", *more)


def exported(place):
    """A model in the form that CTranslate2 wants, as far as one can see."""
    (place / "export").mkdir()
    for name in ("model.bin", "config.json"):
        (place / "export" / name).write_text("{}")


def set_json(path, name, value):
    """Changes one value of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), name: value}), "utf-8")


def distilled_text(place):
    """A corpus of one sentence that says it is of the training text."""
    (place / "made" / "bs-en").mkdir(parents=True)
    for side in ("bs", "en"):
        (place / "made" / "bs-en" / f"train.{side}").write_text("one line\n")
    facts = {"model": "x", "weights": "0", "engine": "transformers", "quantization": "float32", "num_beams": 5, "max_tokens": 9}
    more = {"of": "training text", "places": [], "tags": {}, "machine": "y", "lines": {"bs-en": 1}, "sources": {"bs-en": "0"}}
    (place / "made" / "distilled.json").write_text(json.dumps({**facts, **more}))


def other_test_text(place):
    """A second run whose references are others."""
    shutil.copytree(place / "run", place / "second")
    path = place / "second" / "translations" / "test.bs-en" / "reference.txt"
    path.write_text("another line" + path.read_text("utf-8"), "utf-8")


def write(path, content):
    """A spoilt file under the folder; bytes, text, or a function of what is there."""

    def spoil(place):
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        value = content(target.read_bytes()) if callable(content) else content
        target.write_bytes(value if isinstance(value, bytes) else value.encode())

    return spoil


def remove(path):
    def spoil(place):
        target = place / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return spoil


def edit(path, **fields):
    """Fields of a JSON file changed."""
    return write(path, lambda content: json.dumps({**json.loads(content), **fields}))


def add_training(line):
    """One more line in the section `training` of the recipe."""
    return write("recipe.yaml", lambda text: text.replace(b"training:\n", f"training:\n  {line}\n".encode()))


def without(name):
    """A manifest that does not list a file."""

    def drop(content):
        manifest = json.loads(content)
        del manifest["files"][name]
        return json.dumps(manifest)

    return drop


def link(path, target, how="symlink_to"):
    """Another name of what is there, relative to the folder."""
    return lambda place: getattr(place / path, how)(place / target)


def both(*spoilers):
    return lambda place: [spoil(place) for spoil in spoilers]


def several_targets(path):
    """The teacher of the run with a vocabulary in which two entries are tags."""

    def spoil(place):
        shutil.copytree(place / "run/teacher", place / path)
        entries = list(json.loads((place / path / "vocab.json").read_text()))
        entries[-3:-1] = [">>de<<", ">>el<<"]
        (place / path / "vocab.json").write_text(json.dumps({entry: number for number, entry in enumerate(entries)}))

    return spoil


def family(kind):
    """A model of a family that names its languages by codes."""

    def spoil(place):
        lines = (place / "text/bs-en/train.en").read_text("utf-8").splitlines()
        family_like(kind, place / kind, lines[:200])

    return spoil


def other_tokenizer(place):
    """A tokenizer that names languages in a way of its own."""
    PLBartTokenizer(str(place / "run/teacher/source.spm")).save_pretrained(place / "other")


NEW = ("train", "{place}/recipe.yaml", *TINY, "--output_dir", "{place}/new")
PLAIN = ("train", "{place}/recipe.yaml", "--output_dir", "{place}/new")
TEACHER = ("--model.from_pretrained", "{place}/run/teacher")
EVALUATE = ("evaluate", "{place}/run/teacher", "--data.pairs", "bs-en", "--data.data_dir", "{place}/text")
BS = "text/bs-en/train.bs"
CASES = {
    # corpus files
    "no data folder": (None, (*NEW, "--data.data_dir", "{place}/nowhere"), ("data.data_dir", "nowhere", "is not a folder")),
    "no training text": (remove("text/bs-en"), NEW, ("no text for bs-en, split 'train'", "looked for")),
    "one side missing": (remove(BS), NEW, ("train.en", "its other side train.bs[.gz] is missing")),
    "no validation text": (
        both(remove("text/bs-en/validation.bs"), remove("text/bs-en/validation.en")),
        NEW,
        ("split 'validation'",),
    ),
    "not UTF-8": (write(BS, b"first\nsecond \xff\n"), NEW, ("train.bs:2: not UTF-8", "convert the file")),
    "UTF-16": (write(BS, "eins\nzwei\n".encode("utf-16")), NEW, ("train.bs:1: not UTF-8",)),
    "NUL": (write(BS, b"a\nb\0c\n"), NEW, ("train.bs:2: holds a NUL",)),
    "one line more": (write(BS, lambda text: text + b"more\n"), NEW, ("no partner line", "not aligned")),
    "one line less": (write(BS, lambda text: text.partition(b"\n")[2]), NEW, ("train.en:", "no partner line")),
    "empty files": (both(write(BS, ""), write("text/bs-en/train.en", "")), NEW, ("bs-en",)),
    "only blank lines": (both(write(BS, "\n \n"), write("text/bs-en/train.en", "\n\n")), NEW, ("bs-en",)),
    "a broken gzip file": (
        both(remove(BS), write(BS + ".gz", gzip.compress(LINES.encode() * 2000)[:60])),
        NEW,
        ("train.bs.gz: cannot be read after line",),
    ),
    "text called gzip": (both(remove(BS), write(BS + ".gz", LINES)), NEW, ("train.bs.gz: cannot be read",)),
    "a folder for a file": (both(remove(BS), write(BS + "/x", "")), NEW, ("train.bs",)),
    "TSV with one column": (
        write("all.tsv", "a\tb\nonly one\n"),
        (*NEW, "--data.train", "{place}/all.tsv"),
        ("all.tsv:2: expected source<TAB>target",),
    ),
    "TSV with three columns": (
        write("all.tsv", "a\tb\tc\n"),
        (*NEW, "--data.train", "{place}/all.tsv"),
        ("all.tsv:1", "found 3"),
    ),
    "a TSV that is not there": (None, (*NEW, "--data.train", "{place}/all.tsv"), ("all.tsv: no such file",)),
    "broken JSON": (
        write("all.jsonl", '{"bs": "a", "en": "b"}\n{"bs"\n'),
        (*NEW, "--data.train", "{place}/all.jsonl"),
        ("all.jsonl:2: not JSON",),
    ),
    "JSON without a language": (
        write("all.jsonl", '{"bs": "a"}\n'),
        (*NEW, "--data.train", "{place}/all.jsonl"),
        ("all.jsonl:1: field 'en' is missing",),
    ),
    "JSON with a number": (
        write("all.jsonl", '{"bs": "a", "en": 3}\n'),
        (*NEW, "--data.train", "{place}/all.jsonl"),
        ("all.jsonl:1: field 'en' is not text",),
    ),
    "JSON with a list": (write("all.jsonl", "[1]\n"), (*NEW, "--data.train", "{place}/all.jsonl"), ("expected an object",)),
    "broken parquet": (
        write("all.parquet", b"PAR1 nothing"),
        (*NEW, "--data.train", "{place}/all.parquet"),
        ("all.parquet: not readable as parquet",),
    ),
    "an unknown format": (
        write("all.csv", "a,b\n"),
        (*NEW, "--data.train", "{place}/all.csv", "--data.data_dir", "null"),
        ("data.train", "no .tsv, .jsonl or .parquet"),
    ),
    "an unknown placeholder": (None, (*NEW, "--data.train", "{{split}}.tsv"), ("data.train", "may hold {pair}")),
    "all sentences too long": (None, (*NEW, "--data.max_length", "2"), ("bs-en",)),
    # YAML
    "no recipe": (None, ("train", "{place}/none.yaml"), ("none.yaml: is not there; give a recipe or a run",)),
    "broken YAML": (write("recipe.yaml", "data: [\n"), NEW, ("recipe.yaml: not readable as YAML",)),
    "YAML with tabs": (write("recipe.yaml", "data:\n\tpairs: [bs-en]\n"), NEW, ("recipe.yaml: not readable as YAML",)),
    "a binary recipe": (write("recipe.yaml", b"\x80\x81"), NEW, ("recipe.yaml: not readable",)),
    "a recipe that is a list": (write("recipe.yaml", "- data\n"), NEW, ("recipe.yaml: expected a mapping",)),
    "an empty recipe": (write("recipe.yaml", ""), NEW, ("recipe.yaml: expected a mapping",)),
    "YAML that builds objects": (
        write("recipe.yaml", "data: !!python/object/apply:os.system ['touch pwned']\n"),
        NEW,
        ("recipe.yaml: not readable as YAML",),
    ),
    "a misspelt section": (
        write("recipe.yaml", lambda text: text.replace(b"data:", b"date:")),
        NEW,
        ("unknown section 'date'", "did you mean 'data'"),
    ),
    "a section that is a number": (write("recipe.yaml", "data: 3\n"), NEW, ("section 'data' must be a mapping",)),
    "a section that stands twice": (
        write("recipe.yaml", lambda text: text + b"training: {max_steps: 3}\n"),
        NEW,
        ("recipe.yaml: not readable as YAML", "'training' stands twice", "line 11"),
    ),
    "a truth for a number": (add_training("max_steps: true"), PLAIN, ("field max_steps: invalid int value: True",)),
    "nothing for a number": (add_training("seed: null"), PLAIN, ("field seed: invalid int value: None",)),
    "a list for a number": (
        add_training("learning_rate: [1, 2]"),
        PLAIN,
        ("invalid float value: [1, 2]",),
    ),
    "a number for a path": (
        add_training("run_name: 1.50"),
        PLAIN,
        ("field run_name: invalid str | None value: 1.5; put text in quotes",),
    ),
    "a truth for a path": (add_training("run_name: true"), PLAIN, ("field run_name", "put text in quotes")),
    "an optimizer that is none": (None, (*NEW, "--optim", "sgdx"), ("--optim: 'sgdx' is not one of adamw_torch",)),
    "no pairs": (write("recipe.yaml", "method: plain\n"), NEW, ("data.pairs: name at least one",)),
    "a pair twice": (None, (*NEW, "--data.pairs", "bs-en", "bs-en"), ("data.pairs: bs-en is named 2 times",)),
    "a pair that is a path": (None, (*NEW, "--data.pairs", "../../x-en"), ("language pair '../../x-en'",)),
    "a pair into itself": (None, (*NEW, "--data.pairs", "en-en"), ("language pair 'en-en'",)),
    # command line
    "a misspelt field": (None, (*NEW, "--max_stepz", "3"), ("no option or field --max_stepz; did you mean --max_steps?",)),
    "a word for a number": (None, (*NEW, "--max_steps", "many"), ("--max_steps: invalid int value: 'many'",)),
    "an option without its number": (None, (*NEW, "--max_steps"), ("--max_steps: a value is missing",)),
    "an option without its path": (None, (*NEW, "--output_dir"), ("--output_dir: a value is missing",)),
    "a path of two words": (None, (*NEW, "--output_dir", "my", "run"), ("--output_dir: invalid str value: ['my', 'run']",)),
    "an empty path": (None, (*NEW, "--output_dir", ""), ("output_dir: is empty; name a folder",)),
    "a misspelt section for a model": (
        None,
        ("evaluate", "{place}/run/teacher", "--dta.pairs", "bs-en"),
        ("no option or field --dta.pairs; did you mean --data.pairs?",),
    ),
    "an unknown section": (
        None,
        (*NEW, "--modle.d_model", "8"),
        ("--modle.d_model; did you mean --model.d_model?",),
    ),
    "a loose word": (None, (*NEW, "loose"), ("loose",)),
    "an unknown method": (None, (*NEW, "--method", "magic"), ("--method: 'magic' is no method (known: plain, all_in_one",)),
    "a negative weight": (None, (*NEW, "--kd_weight", "-1"), ("kd_weight: -1.0",)),
    "label smoothing of one": (None, (*NEW, "--label_smoothing_factor", "1"), ("label_smoothing_factor: 1.0 is out of range",)),
    "a temperature of zero": (None, (*NEW, "--temperatures", "0"), ("temperatures: 0 is not positive",)),
    "no room for a token": (None, (*NEW, "--max_tokens", "3"), ("max_tokens",)),
    "more students than candidates": (
        None,
        (*NEW, "--num_students", "9", "--sample_with_replacement", "false"),
        ("num_students: 9 different students",),
    ),
    "a candidate too deep": (None, (*NEW, "--candidates", "9-9"), ("has only 2-2 layers",)),
    "an always that is no candidate": (None, (*NEW, "--always", "9-9"), ("always: 9-9 is not among the candidates",)),
    "more always than students": (None, (*NEW, "--always", "2-2", "3-2", "4-2"), ("always: ", "at most 2 depths")),
    "a preset beside what it sets": (
        None,
        (*NEW, "--preset", "paper", "--views", "shared"),
        ("views: 'shared' was given, but preset paper has 'independent'",),
    ),
    "a preset that is none": (None, (*NEW, "--preset", "papers"), ("preset: 'papers' is not paper",)),
    "views that are none": (None, (*NEW, "--views", "three"), ("views: 'three' is not one of shared, two, independent",)),
    "an average of nothing": (None, (*NEW, "--ema_decay", "1"), ("ema_decay: 1.0 is not between 0 and 1",)),
    "UniMax for more peers than there are": (
        None,
        (*NEW, "--unimax_epochs", "1", "2"),
        ("unimax_epochs: 2 are given for 1 temperatures",),
    ),
    "a consistency that is none": (None, (*NEW, "--method", "plain", "--consistency", "rdrop"), ("consistency: 'rdrop'",)),
    "a weight of no consistency": (
        None,
        (*NEW, "--method", "plain", "--consistency_weight", "5"),
        ("consistency_weight: is for r_drop, simcut, cutoff, cipher",),
    ),
    "a cipher without an alphabet": (
        None,
        (*NEW, "--method", "plain", "--consistency", "cipher"),
        ("consistency: cipher needs a tokenizer that was made for ciphers", "--tokenizer.cipher_keys 1 2"),
    ),
    "a cipher that is none": (None, (*NEW, "--tokenizer.cipher_keys", "0"), ("cipher_keys: [0] are not different whole",)),
    "a cipher that is no number": (None, (*NEW, "--tokenizer.cipher_keys", "x"), ("tokenizer.cipher_keys", "'x'")),
    "a cipher of two vocabularies": (
        None,
        (*NEW, "--tokenizer.cipher_keys", "1", "--tokenizer.joint", "false"),
        ("tokenizer.cipher_keys: ciphers want one SentencePiece model for both sides",),
    ),
    "distillation from nobody": (None, (*NEW, "--method", "word_kd"), ("teachers: none is named",)),
    "a teacher that is not there": (
        None,
        (*NEW, "--method", "word_kd", "--teachers", "{place}/text"),
        ("text: holds no checkpoint, and is no run with finished models",),
    ),
    "a teacher of another vocabulary": (
        None,
        (*NEW, "--method", "word_kd", "--teachers", "{place}/run/teacher", "--tokenizer.from_pretrained", "{place}/other"),
        ("other",),
    ),
    "a pair without a teacher": (
        None,
        (*NEW, "--method", "word_kd", "--teachers", '{{"fr-en": "{place}/run/teacher"}}'),
        ("teachers: bs-en has none; name one",),
    ),
    "a selection that is none": (
        None,
        (*NEW, "--method", "word_kd", "--teachers", "{place}/run", "--selection", "most"),
        ("selection: 'most' is not one of all, batch, queue",),
    ),
    "a training over its teacher": (
        None,
        ("train", "{place}/recipe.yaml", *TINY, "--method", "word_kd", "--teachers", "{place}/run/teacher", "--overwrite"),
        ("training.output_dir", "run"),
    ),
    "a gate that is none": (
        None,
        (*NEW, "--method", "lssd", "--gate", "open"),
        ("gate: 'open' is not one of whole, hard, soft",),
    ),
    "students of peers for every micro-batch": (
        None,
        (*NEW, "--method", "pareto_all_in_one", "--temperatures", "1", "5", "--students_per", "micro_batch"),
        ("students_per: peers and their searches share",),
    ),
    "stages without checkpoints": (
        None,
        (*NEW, "--save_strategy", "no", "--mutual_start", "0.5"),
        ("mutual_start: two stages need",),
    ),
    "epochs for steps": (None, (*NEW, "--eval_strategy", "epoch"), ("strategy 'epoch'",)),
    "a layer without width": (None, (*NEW, "--model.encoder_ffn_dim", "0"), ("model.encoder_ffn_dim: 0 is not 1 or more",)),
    "a layer of less than nothing": (None, (*NEW, "--model.decoder_ffn_dim", "-1"), ("model.decoder_ffn_dim: -1 is not",)),
    "no heads": (None, (*NEW, "--model.encoder_attention_heads", "0"), ("model.encoder_attention_heads: 0 is not 1 or more",)),
    "a model beyond all memory": (None, (*NEW, "--model.d_model", "80000000"), ("the training cannot begin", "memory")),
    "heads that do not divide": (None, (*NEW, "--model.d_model", "33"), ("model.d_model: 33 is not a multiple",)),
    "an unknown initialisation": (None, (*NEW, "--model.initialisation", "warm"), ("model.initialisation: 'warm'",)),
    "an unknown metric split": (None, (*NEW, "--evaluation.splits", "tset"), ("evaluation.splits: 'tset'",)),
    "a baseline without results": (None, (*NEW, "--evaluation.baselines", "{place}/text"), ("evaluation.baselines",)),
    "a finished run again": (None, ("train", "{place}/recipe.yaml"), ("holds a finished run; give --extend", "--overwrite")),
    "an output that is a file": (
        write("new", "mine"),
        NEW,
        ("output_dir", "new cannot be written"),
    ),
    "a depth that is a path": (None, (*NEW, "--evaluation.depths", "../../2-2"), ("../../2-2",)),
    "a secret": (None, (*NEW, "--hub_token", "hf_abcdefgh"), ("training.hub_token", "hf auth login")),
    "no depth to extract": (None, ("extract", "{place}/run", "2-x", "--output", "{place}/new"), ("2-x",)),
    "too deep to extract": (None, ("extract", "{place}/run", "9-9", "--output", "{place}/new"), ("has only 2-2 layers",)),
    "extracting from nothing": (
        None,
        ("extract", "{place}/no", "2-1", "--output", "{place}/new"),
        ("no: is not there; give a run",),
    ),
    "evaluating nothing": (None, ("evaluate", "{place}/no", *EVALUATE[2:]), ("no: is not there; give a run or a model",)),
    "an unknown bench shape": (None, ("bench", "--shape", "huge"), ("--shape: invalid choice: 'huge'",)),
    # checkpoints, tokenizers, configurations
    "cut weights": (
        write("run/teacher/model.safetensors", lambda all_: all_[:900]),
        (*NEW, *TEACHER),
        ("no usable checkpoint",),
    ),
    "no weights": (remove("run/teacher/model.safetensors"), (*NEW, *TEACHER), ("teacher", "no usable checkpoint")),
    "pickled weights only": (
        both(remove("run/teacher/model.safetensors"), write("run/teacher/pytorch_model.bin", b"\x80\x04")),
        (*NEW, *TEACHER),
        ("teacher", "no usable checkpoint"),
    ),
    "no configuration": (remove("run/teacher/config.json"), (*NEW, *TEACHER), ("teacher", "no usable checkpoint")),
    "a broken configuration": (write("run/teacher/config.json", "{"), (*NEW, *TEACHER), ("teacher", "cannot be loaded")),
    "a model of another kind": (
        edit("run/teacher/config.json", model_type="bert"),
        (*NEW, *TEACHER),
        ("no usable checkpoint",),
    ),
    "a configuration of another size": (
        edit("run/teacher/config.json", d_model=32),
        (*NEW, *TEACHER),
        ("no usable checkpoint",),
    ),
    "pad in the wrong place": (edit("run/teacher/config.json", pad_token_id=5), (*NEW, *TEACHER), ("pad",)),
    "no vocabulary": (remove("run/teacher/vocab.json"), EVALUATE, ("tokenizer", "cannot be loaded")),
    "a broken vocabulary": (write("run/teacher/vocab.json", "{"), EVALUATE, ("tokenizer", "cannot be loaded")),
    "a broken SentencePiece model": (write("run/teacher/source.spm", b"nothing"), EVALUATE, ("tokenizer", "cannot be loaded")),
    "a tokenizer of another model": (
        write("run/teacher/vocab.json", lambda text: json.dumps(dict(list(json.loads(text).items())[:-3]))),
        EVALUATE,
        ("tokenizer",),
    ),
    "a tokenizer that is not there": (
        None,
        (*NEW, "--tokenizer.from_pretrained", "{place}/none"),
        ("tokenizer", "none"),
    ),
    "a vocabulary too small": (None, (*NEW, "--tokenizer.vocab_size", "20"), ("vocab_size",)),
    "broken results": (
        write("run/results.json", "{"),
        (*NEW, "--evaluation.baselines", "{place}/run"),
        ("evaluation.baselines",),
    ),
    "no weights of pairs": (
        None,
        (*NEW, "--method", "pareto_mutual", "--strategy", "fixed"),
        ("weights_file: strategy fixed needs one",),
    ),
    "a broken file of weights": (
        write("weights.json", "{"),
        (*NEW, "--method", "pareto_mutual", "--strategy", "fixed", "--weights_file", "{place}/weights.json"),
        ("weights.json",),
    ),
    "weights of another pair": (
        write("weights.json", '{"weights": [{"fr-en": 0.5}, {"fr-en": 0.5}]}'),
        (*NEW, "--method", "pareto_mutual", "--strategy", "fixed", "--weights_file", "{place}/weights.json"),
        ("weights.json", "bs-en"),
    ),
}


# outputs that are in the way of inputs: the model, the source or the text must survive
MODEL, TEXT = "{place}/run/students/2-2", ("--data.pairs", "bs-en", "--data.data_dir", "{place}/text")
TRANSLATE = ("translate", MODEL, "{place}/in.txt", "--output")
EXPORT = ("export", MODEL, "--to", "ctranslate2", "--overwrite", "--output")
EXTRACT = ("extract", "{place}/run", "2-2", "--overwrite", "--output")
SOURCE = write("in.txt", LINES)
TRAIN = ("train", "{place}/recipe.yaml", *TINY, "--output_dir")
CASES |= {
    f"an output in the way: {name}": (spoil, words, wanted)
    for name, (spoil, words, wanted) in {
        "translate onto the source": (SOURCE, (*TRANSLATE, "{place}/in.txt"), ("--output", "is", "in.txt, which is read here")),
        "translate, another spelling": (SOURCE, (*TRANSLATE, "run/../in.txt"), ("--output", "which is read here")),
        "translate, a symbolic link": (
            both(SOURCE, link("link.txt", "in.txt")),
            (*TRANSLATE, "{place}/link.txt"),
            ("--output", "link.txt is"),
        ),
        "translate, a hard link": (
            both(SOURCE, link("hard.txt", "in.txt", "hardlink_to")),
            (*TRANSLATE, "{place}/hard.txt"),
            ("--output", "hard.txt is"),
        ),
        "translate into the model": (SOURCE, (*TRANSLATE, MODEL + "/config.json"), ("--output", "lies inside")),
        "export onto the model": (None, (*EXPORT, MODEL), ("--output", "is", "which is read here")),
        "export around the model": (None, (*EXPORT, "{place}/run"), ("--output", "contains")),
        "export into the model": (None, (*EXPORT, MODEL + "/int8"), ("--output", "lies inside")),
        "export, a symbolic link": (link("alias", "run"), (*EXPORT, "{place}/alias"), ("--output", "alias contains")),
        "export onto a folder of text": (None, (*EXPORT, "{place}/text"), ("text: is nothing that `paretokd export` wrote",)),
        "export onto another model": (None, (*EXPORT, "{place}/run/teacher"), ("is nothing that `paretokd export` wrote",)),
        "export onto a file": (None, (*EXPORT, "{place}/recipe.yaml"), ("is nothing that `paretokd export` wrote",)),
        "extract onto the run": (None, (*EXTRACT, "{place}/run"), ("--output", "run is")),
        "extract into the run": (None, (*EXTRACT, "{place}/run/students"), ("--output", "lies inside")),
        "extract around a model": (
            None,
            ("extract", "{place}/run/teacher", "2-2", "--output", "{place}/run"),
            ("--output", "contains"),
        ),
        "extract onto more than a student": (
            write("out/2-2/notes.txt", "mine"),
            (*EXTRACT, "{place}/out"),
            ("2-2: holds more than a student",),
        ),
        "train into the text": (None, (*TRAIN, "{place}/text", "--overwrite"), ("training.output_dir", "is", "text")),
        "train below the text": (None, (*TRAIN, "{place}/text/run"), ("training.output_dir", "lies inside")),
        "train around the text": (
            lambda place: shutil.copytree(place / "text", place / "big/text"),
            (*TRAIN, "{place}/big", "--data.data_dir", "{place}/big/text"),
            ("training.output_dir", "contains", "big/text, which is read here"),
        ),
        "train over the model to start from": (
            None,
            (*TRAIN, "{place}/run", "--overwrite", "--model.from_pretrained", "{place}/run/teacher"),
            ("training.output_dir", "contains"),
        ),
        "train over a baseline": (
            None,
            (*TRAIN, "{place}/run", "--overwrite", "--evaluation.baselines", "{place}/run"),
            ("training.output_dir", "is"),
        ),
        "train into a folder of one's own": (
            write("mine/plots/holiday.png", "precious"),
            (*TRAIN, "{place}/mine", "--overwrite"),
            ("plots: is there already", "is no run"),
        ),
    }.items()
}

# text to translate, and models that have to be told a language
CASES |= {
    f"translate: {name}": (spoil, ("translate", MODEL, "{place}/in.txt", *more), wanted)
    for name, (spoil, more, wanted) in {
        "no such file": (None, (), ("in.txt: no such file",)),
        "a folder": (write("in.txt/x", ""), (), ("in.txt: is a folder",)),
        "UTF-16": (write("in.txt", LINES.encode("utf-16")), (), ("in.txt: is UTF-16", "iconv")),
        "UTF-16 without its mark": (write("in.txt", LINES.encode("utf-16-be")), (), ("in.txt: is UTF-16",)),
        "a control token": (write("in.txt", LINES + "a </s> b\n"), (), ("in.txt:3: holds </s>", "--bad_lines skip")),
        "an unknown tag": (write("in.txt", LINES + ">>el<< b\n"), (), ("in.txt:3: the tag >>el<< is unknown", "copy")),
        "what Marian takes for a tag": (write("in.txt", ">> a << b\n"), (), ("in.txt:1: the tag >> a << is unknown",)),
        "a long line": (write("in.txt", "a" * 5000), ("--long", "refuse"), ("in.txt:1:", "--long split")),
        "an unknown language": (SOURCE, ("--to", "el"), ("tag >>el<< is unknown",)),
        "a full disk": (SOURCE, ("--output", "/dev/full"), ("/dev/full: cannot be written (No space left on device)",)),
        "no place for the output": (SOURCE, ("--output", "{place}/no/out"), ("cannot be written",)),
    }.items()
}
CASES |= {
    "a broken gzip file to translate": (
        write("in.gz", gzip.compress(LINES.encode() * 2000)[:60]),
        ("translate", MODEL, "{place}/in.gz"),
        ("in.gz: cannot be read after line",),
    ),
    "a line without a language": (
        several_targets("several"),
        ("translate", "{place}/several", "{place}/recipe.yaml"),
        ("recipe.yaml:1: no target language: put one of >>de<<, >>el<< before the text", "--to"),
    ),
    "languages named in a way of their own": (
        other_tokenizer,
        (*NEW, "--tokenizer.from_pretrained", "{place}/other"),
        ("PLBartTokenizer names languages by src_lang and tgt_lang in a way of its own", "Marian, M2M100, NLLB, mBART or T5"),
    ),
    "codes, and no language is named": (
        family("m2m"),
        ("translate", "{place}/m2m", "{place}/recipe.yaml"),
        ("no target language: name one of the 100 that the model knows, such as af", "--to"),
    ),
    "codes, and an unknown language": (
        family("m2m"),
        ("translate", "{place}/m2m", "{place}/recipe.yaml", "--to", "tlh"),
        ("language 'tlh' is unknown to the tokenizer (it knows af",),
    ),
    "codes, and an unknown source language": (
        family("m2m"),
        ("translate", "{place}/m2m", "{place}/recipe.yaml", "--to", "en", "--from", "tlh"),
        ("language 'tlh' is unknown to the tokenizer (it knows af",),
    ),
    "codes, and a pair that is none of theirs": (
        family("mbart"),
        (*NEW, "--model.from_pretrained", "{place}/mbart"),
        ("language 'bs' is unknown to the tokenizer (it knows ar_AR",),
    ),
    "codes, and words before the source": (
        family("m2m"),
        (*NEW, "--model.from_pretrained", "{place}/m2m", "--data.source_prefix", "to English: "),
        ("data.source_prefix: M2M100Tokenizer is told languages by its codes",),
    ),
    "words before the source with an unknown name": (
        None,
        (*NEW, "--data.source_prefix", "to {{language}}: "),
        ("data.source_prefix: 'to {language}: ' may hold {pair}, {source} and {target} only",),
    ),
    "languages of a model that is told none": (
        family("t5"),
        ("translate", "{place}/t5", "{place}/recipe.yaml", "--from", "fr", "--to", "de"),
        ("fr-de: the model is not told which languages it translates",),
    ),
}

# going on as another training: the finished run is made longer, with one thing changed
LONGER = ("train", "{place}/run", "--extend", "2")
CASES |= {
    f"another training: {' '.join(words)}": (None, (*LONGER, *words), ("is of another training", wanted))
    for words, wanted in {
        ("--learning_rate", "0.1"): "learning_rate was 0.0005, now 0.1",
        ("--seed", "7"): "seed was 42, now 7",
        ("--max_tokens", "300"): "max_tokens was 400, now 300",
        ("--max_steps", "3"): "max_steps was 4, now 3",
        ("--label_smoothing_factor", "0.2"): "label_smoothing_factor was 0.1, now 0.2",
        ("--warmup_steps", "3"): "warmup_steps was 1, now 3",
        ("--lr_scheduler_type", "linear"): "lr_scheduler_type was inverse_sqrt, now linear",
        ("--weight_decay", "0.1"): "weight_decay was 0, now 0.1",
        ("--adam_beta2", "0.9"): "adam_beta2 was 0.98, now 0.9",
        ("--optim", "adafactor"): "optim was",
        ("--max_grad_norm", "0.5"): "max_grad_norm was 1, now 0.5",
        ("--bf16", "true"): "precision was no, now bf16",
        ("--num_students", "1"): "num_students was",
        ("--tokenizer.vocab_size", "600"): "tokenizer.vocab_size was 700, now 600",
        ("--data.max_length", "20"): "the text of bs-en was",
        ("--model.dropout", "0.3"): "dropout was 0.1, now 0.3",
    }.items()
}
# arguments that only torch or transformers object to, with a finished run that --overwrite would replace
AGAIN = ("train", "{place}/recipe.yaml", *TINY, "--overwrite")
CASES |= {
    f"an argument that does not fit: {' '.join(words)}": (None, (*AGAIN, *words), wanted)
    for words, wanted in {
        ("--seed", "-1"): ("seed: -1 is out of range",),
        ("--lr_scheduler_kwargs", '{{"x": 1}}'): ("lr_scheduler_kwargs: ", "unexpected keyword argument 'x'"),
        ("--optim", "galore_adamw"): ("optim galore_adamw", "galore_torch"),
        ("--model.activation_function", "foo"): ("the training cannot begin", "foo"),
        ("--model.dropout", "2"): ("model.dropout: 2.0 is not between 0 and 1",),
        ("--kd_weight", "inf"): ("kd_weight: inf is not 0 or more",),
        ("--learning_rate", "inf"): ("learning_rate: inf is out of range",),
        ("--weight_decay", "nan"): ("weight_decay: nan is out of range",),
    }.items()
}

# what would be found out at the end of a training, or in its middle
PUSH = ("--push_to_hub", "true", "--hub_model_id")
CASES |= {
    "a name that no repository can have": (None, (*NEW, *PUSH, "anna/my-"), ("'anna/my-' is no name for a repository",)),
    "a name too long with the depth": (None, (*NEW, *PUSH, "anna/" + "x" * 93), ("x-2-2' is no name for a repository",)),
    "no name to push to": (None, (*NEW, *PUSH[:2]), ("'' is no name for a repository", "hub_model_id")),
    "a language that is none": (
        None,
        (*NEW, *PUSH, "anna/x", "--data.pairs", "jp-en"),
        ("language 'jp': is no ISO 639 code", "card.languages"),
    ),
    "a language that is none to push": (
        write("run/recipe.yaml", lambda text: text.replace(b"bs-en", b"bos_nian-en")),
        ("push", "{place}/run", "--to", "anna/x", "--dry-run"),
        ("language 'bos_nian': is no ISO 639 code", "card.languages"),
    ),
    "a card's language that is none": (
        None,
        (*NEW, "--card.languages", "de", "english"),
        ("card.languages: 'english' is no ISO 639 code",),
    ),
    "stages without a measure": (
        add_training("metric_for_best_model: null"),
        (*PLAIN, "--load_best_model_at_end", "false", "--mutual_start", "0.5"),
        ("metric_for_best_model: two stages need one",),
    ),
    "no first stage": (None, (*NEW, "--mutual_start", "0.1"), ("mutual_start: 0.1 of 4 updates leaves 0 to stage one",)),
    "no second stage": (None, (*NEW, "--mutual_start", "0.9"), ("leaves 4 to stage one and 0 to stage two",)),
    "a measure that never comes": (
        None,
        (*NEW, "--metric_for_best_model", "bleu"),
        ("metric_for_best_model: 'bleu' is nothing that a validation finds out", "one of loss, nll"),
    ),
}
CASES |= {
    "another text": (
        write(BS, lambda text: text.replace(text.partition(b"\n")[0], b"nesto drugo", 1)),
        LONGER,
        ("the text of bs-en was",),
    ),
    "more micro-batches an update": (
        None,
        (*LONGER, "--gradient_accumulation_steps", "2"),
        ("took 1 micro-batches each, now they would take 2", "keep the product"),
    ),
    "another temperature": (None, (*LONGER, "--temperatures", "2"), ("temperatures: the checkpoint was sampled with τ = 1",)),
    "nothing to make longer": (remove("run/checkpoints"), LONGER, ("extend: there is no checkpoint", "to go on from")),
    "nothing that says what is made longer": (
        both(
            remove("run/checkpoints/checkpoint-4/training.json"),
            write("run/checkpoints/checkpoint-4/manifest.json", without("training.json")),
        ),
        LONGER,
        ("extend:", "checkpoint-4 holds no record of its training"),
    ),
    "damaged results": (write("run/results.json", "{"), ("report", "{place}/run"), ("results.json: cannot be read",)),
    "a damaged configuration in a run": (
        write("run/teacher/config.json", "[]"),
        ("report", "{place}/run"),
        ("teacher/config.json: is no configuration of a model",),
    ),
    "no further updates": (
        None,
        ("train", "{place}/run", "--extend", "0"),
        ("--extend: '0' is not 1 or more",),
    ),
    "fewer updates": (None, ("train", "{place}/run", "--extend=-2"), ("--extend: '-2' is not 1 or more",)),
    "a finished run": (None, ("train", "{place}/run", "--resume"), ("holds a finished run",)),
    "data skipped twice": (None, (*NEW, "--ignore_data_skip", "false"), ("ignore_data_skip: must stay on",)),
}


# found by eyes that had not seen the code before
SPLITS = ("train", "validation", "test")
WEIGHTS = "run/students/2-2/model.safetensors"
TO = ("push", "{place}/run", "--to", "anna/x", "--dry-run")
REPORT = ("report", "{place}/run")


def results(change):
    """The results of the run with something done to their rows."""

    def spoil(content):
        rows = json.loads(content)
        change(rows)
        return json.dumps(rows)

    return write("run/results.json", spoil)


CASES |= {
    "pairs in another order": (
        both(
            lambda place: shutil.copytree(place / "text/bs-en", place / "text/hr-en"),
            *(
                lambda place, split=split: (place / f"text/hr-en/{split}.bs").rename(place / f"text/hr-en/{split}.hr")
                for split in ("train", "validation", "test")
            ),
        ),
        (*LONGER, "--data.pairs", "hr-en", "bs-en"),
        ("is of another training", "the pair hr-en is new"),
    ),
    "another validation text": (
        both(write("text/bs-en/validation.bs", LINES), write("text/bs-en/validation.en", LINES)),
        LONGER,
        ("is of another training", "the validation text of bs-en was"),
    ),
    "another method": (None, (*LONGER, "--method", "plain"), ("is of another training", "method was all_in_one, now plain")),
    "a resume that is no field": (
        None,
        (*NEW, "--resume_from_checkpoint", "{place}/run"),
        ("resume_from_checkpoint: give it to train(", "--resume"),
    ),
    "validation after the end": (None, (*NEW, "--eval_delay", "9"), ("eval_delay: 9 updates", "no validation left of 4")),
    "a scored depth too deep": (None, (*AGAIN, "--evaluation.depths", "9-9"), ("evaluation.depths: depth 9-9", "only 2-2")),
    "a scored depth that is not trained": (
        None,
        (*AGAIN, "--evaluation.depths", "2-1"),
        ("evaluation.depths: 2-1 is not trained, only 2-2; name all that are to be as all_in_one.candidates",),
    ),
    "a scored depth that is none": (None, (*AGAIN, "--evaluation.depths", "2"), ("evaluation.depths: depth '2'",)),
    "no test text": (remove("text/bs-en/test.bs"), AGAIN, ("its other side test.bs[.gz] is missing",)),
    "no updates": (None, (*NEW, "--max_steps", "0"), ("max_steps: 0 is not 1 or more", "num_train_epochs")),
    "updates below none": (None, (*NEW, "--max_steps", "-7"), ("max_steps: -7 is not 1 or more",)),
    "a misspelt field of a method that lies idle": (
        write("recipe.yaml", lambda text: text + b"pareto_mutual: {stratgy: uni}\n"),
        NEW,
        ("recipe.yaml: pareto_mutual: unknown field 'stratgy'", "did you mean 'strategy'"),
    ),
    "a folder for a recipe": (
        None,
        ("train", "{place}/text", "--resume"),
        ("text: is a folder in which there is no run",),
    ),
    "a push without weights": (remove(WEIGHTS), TO, ("2-2/model.safetensors: is missing", "paretokd extract")),
    "a push of cut weights": (write(WEIGHTS, lambda all_: all_[:-9]), TO, ("2-2/model.safetensors: corrupt",)),
    "a run for a model to translate": (
        None,
        ("translate", "{place}/run"),
        ("run: is a run; its students are 2-2, such as",),
    ),
    "a run for a model to export": (
        None,
        ("export", "{place}/run", "--to", "ctranslate2", "--output", "{place}/new"),
        ("run: is a run; its students are 2-2, such as",),
    ),
    "a quantization of nothing": (
        SOURCE,
        ("translate", MODEL, "{place}/in.txt", "--quantization", "int8"),
        ("--quantization int8: needs --engine ctranslate2",),
    ),
    "packed text under a plain name": (
        write("in.txt", gzip.compress(LINES.encode())),
        ("translate", MODEL, "{place}/in.txt"),
        ("in.txt: is packed (gzip); unpack it first, or name it .gz",),
    ),
    "UTF-32": (write("in.txt", LINES.encode("utf-32")), ("translate", MODEL, "{place}/in.txt"), ("in.txt: is UTF-32", "iconv")),
    "a program for a text": (
        write("in.txt", b"\x7fELF\0\0\n"),
        ("translate", MODEL, "{place}/in.txt"),
        ("in.txt: is no UTF-8 text",),
    ),
    "an export into the text": (None, (*EXPORT, "{place}/text/out", *TEXT), ("--output", "lies inside", "text")),
    "an extract into the text": (None, (*EXTRACT, "{place}/text/out"), ("--output", "lies inside")),
    "results without a value": (
        results(lambda rows: rows[-1].update(value=None)),
        REPORT,
        ("results.json: cannot be read", "value"),
    ),
    "results with a word": (
        results(lambda rows: rows[-1].update(value="good")),
        REPORT,
        ("results.json: cannot be read", "value"),
    ),
    "results that are no number": (
        results(lambda rows: rows[-1].update(value=float("nan"))),
        REPORT,
        ("results.json: cannot be read", "NaN is no number"),
    ),
    "results of no depth": (
        results(lambda rows: rows[-1].update(depth="deep")),
        REPORT,
        ("results.json: cannot be read", "'deep'"),
    ),
    "no results at all": (results(list.clear), REPORT, ("results.json: holds no results",)),
    "plots that are a file": (
        both(remove("run/plots"), write("run/plots", "mine")),
        REPORT,
        ("run/plots: cannot be written",),
    ),
}


TSV = write("run/all.tsv", "a\tb\n" * 40)
CASES |= {
    "text in the run that is replaced": (
        TSV,
        (*AGAIN, "--data.data_dir", "null", *(word for split in SPLITS for word in (f"--data.{split}", "{place}/run/all.tsv"))),
        ("training.output_dir", "contains", "all.tsv, which is read here"),
    ),
    "a run inside a run": (None, (*TRAIN, "{place}/run/students/mine"), ("training.output_dir", "lies inside the run")),
    "translating over a file": (
        both(SOURCE, write("out.txt", "mine\n")),
        (*TRANSLATE, "{place}/out.txt"),
        ("out.txt: exists already; give --overwrite",),
    ),
    "translating over a file what is no text": (
        both(write("in.txt", LINES.encode("utf-16")), write("out.txt", "mine\n")),
        (*TRANSLATE, "{place}/out.txt", "--overwrite"),
        ("in.txt: is UTF-16",),
    ),
    "translating over a file a first line that is bad": (
        both(write("in.txt", "a </s> b\n"), write("out.txt", "mine\n")),
        (*TRANSLATE, "{place}/out.txt", "--overwrite"),
        ("in.txt:1: holds </s>",),
    ),
    "another initialisation": (
        None,
        (*LONGER, "--model.initialisation", "fairseq"),
        ("model.initialisation was residual, now fairseq",),
    ),
    "another precision, without a record": (
        both(
            remove("run/checkpoints/checkpoint-4/training.json"),
            write("run/checkpoints/checkpoint-4/manifest.json", without("training.json")),
            remove("run/results.json"),
        ),
        ("train", "{place}/run", "--resume", "--bf16", "true"),
        ("is of another training", "training.bf16 was False, now True"),
    ),
    "a record that is none": (
        both(
            write("run/checkpoints/checkpoint-4/training.json", "{}"),
            write("run/checkpoints/checkpoint-4/manifest.json", without("training.json")),
        ),
        LONGER,
        ("checkpoint-4/training.json: cannot be read",),
    ),
    "more than an export": (
        both(
            *(write(f"out/{name}", "{}") for name in ("model.bin", "proof.json", "notes.txt")),
            write("out/manifest.json", '{"files": {"model.bin": {}, "proof.json": {}}}'),
        ),
        (*EXPORT, "{place}/out"),
        ("out/notes.txt: is nothing that `paretokd export` wrote",),
    ),
    "a recipe in its own output": (
        both(lambda place: (place / "own").mkdir(), link("own/recipe.yaml", "recipe.yaml", "hardlink_to")),
        ("train", "{place}/own/recipe.yaml", "--output_dir", "{place}/own", "--overwrite"),
        ("own/recipe.yaml: is where the run would write its own recipe",),
    ),
    "extracting onto a file": (
        None,
        ("extract", "{place}/run", "2-2", "--output", "{place}/recipe.yaml"),
        ("recipe.yaml: is a file",),
    ),
    "a NUL in a path": (add_training('run_name: "a\\0b"'), PLAIN, ("field run_name: holds a NUL character",)),
    "brackets without end": (write("recipe.yaml", "[" * 3000), NEW, ("recipe.yaml: not readable as YAML",)),
    "a number without end": (add_training("max_steps: " + "9" * 5000), PLAIN, ("recipe.yaml: not readable as YAML",)),
    "a run that is to go on elsewhere": (
        None,
        (*LONGER, "--output_dir", "{place}/new"),
        ("--output_dir: ", "run goes on where it is"),
    ),
    "distilled text that is not there": (
        None,
        (*NEW, "--data.distilled_dir", "{place}/text"),
        ("data.distilled_dir: ", "distilled.json is missing"),
    ),
    "a use of distilled text that is none": (
        None,
        (*NEW, "--data.distilled", "mix"),
        ("data.distilled: 'mix' is not one of replace, add",),
    ),
    "distilled text of other sources": (
        distilled_text,
        (*NEW, "--data.distilled_dir", "{place}/made"),
        ("train.bs:1: is not the sentence that the training text has there", "distil the text again"),
    ),
    "distillation over a folder": (
        None,
        ("distill", "{place}/run", "--output", "{place}/text"),
        ("--output: ", "text", "is read here"),
    ),
    "distillation into a run": (None, ("distill", "{place}/run", "--output", "{place}/run/text"), ("lies inside",)),
    "distillation of no text": (
        None,
        ("distill", "{place}/run", "--output", "{place}/out", "--text", "{place}/nothing.bs"),
        ("nothing.bs: no such file",),
    ),
    "distillation by a run without models": (
        None,
        ("distill", "{place}/text", "--output", "{place}/out"),
        ("text: is a folder in which there is no run and no model; give a run or a model",),
    ),
    "a comparison with nothing": (None, ("compare", "{place}/run", "{place}/nowhere"), ("nowhere' is no folder",)),
    "a comparison of a folder": (None, ("compare", "{place}/text"), ("text: is a folder in which there is no run",)),
    "a comparison across texts": (
        other_test_text,
        ("compare", "{place}/run", "{place}/second"),
        (
            "second",
            "cannot be compared: their text of bs-en differs, first in line 1",
        ),
    ),
    "a baseline that is none": (
        None,
        ("compare", "{place}/run", "--baseline", "best"),
        ("--baseline: 'best' is neither a run nor one of",),
    ),
    # beams
    "more beams than there is memory for": (
        None,
        ("translate", MODEL, "{place}/recipe.yaml", "--num_beams", "99999"),
        ("--num_beams: 99999 is more than 100",),
    ),
    "a teacher with too many beams": (
        None,
        ("distill", MODEL, "--num_beams", "101", "--output", "{place}/made"),
        ("--num_beams: 101 is more than 100",),
    ),
    "scores by too many beams": (
        None,
        (*NEW, "--evaluation.num_beams", "200"),
        ("evaluation.num_beams: 200 is more than 100",),
    ),
    "cards of what would be uploaded at once": (
        None,
        ("push", "{place}/run", "--to", "anna/x", "--cards"),
        ("--cards: prints what --dry-run would upload",),
    ),
    # a first recipe
    "no text to begin with": (
        None,
        ("init", "{place}/run", "--recipe", "new.yaml"),
        ("run: has no text (train.LANG[.gz] of two languages",),
    ),
    "a file to begin with": (
        None,
        ("init", "{place}/recipe.yaml", "--recipe", "new.yaml"),
        ("recipe.yaml: name a folder with text",),
    ),
    "a recipe that is there": (None, ("init", "{place}/text"), ("--recipe: recipe.yaml is there already",)),
    "a pair that is not there": (
        None,
        ("init", "{place}/text", "--pairs", "de-en", "--recipe", "new.yaml"),
        ("text: has no train text of de-en (train.de and .en, also .gz)",),
    ),
    # the wrong kind of thing
    "no such command": (None, ("trian", "{place}/recipe.yaml"), ("no command trian; did you mean train?",)),
    "no such option": (None, ("choose", "{place}/run", "--max-m", "3"), ("no option --max-m; did you mean --max-m",)),
    "an option for a field": (None, (*NEW, "--resum"), ("no option or field --resum; did you mean --resume?",)),
    "a word too many": (None, ("report", "{place}/run", "twice"), ("'twice' is a word too many",)),
    "nothing where something is needed": (None, ("export", MODEL), ("the following arguments are required: --to, --output",)),
    "a number for a word": (None, ("choose", "{place}/run", "--max-ms", "fast"), ("--max-ms: invalid float value: 'fast'",)),
    "a choice that is none": (
        None,
        ("translate", MODEL, "--engine", "marian"),
        ("argument --engine: invalid choice: 'marian'", "ctranslate2"),
    ),
    "a recipe to report on": (None, ("report", "{place}/recipe.yaml"), ("recipe.yaml: is a recipe; give a run",)),
    "a model to report on": (None, ("report", "{place}/run/teacher"), ("teacher: is a model of the run", "give a run")),
    "a model to choose from": (None, ("choose", "{place}/run/teacher"), ("teacher: is a model of the run", "; give a run")),
    "a model to push": (None, ("push", "{place}/run/teacher", "--to", "a/b"), ("is a model of the run", "; give a run")),
    "a model to train": (None, ("train", "{place}/run/teacher"), ("is a model of the run", "; give a recipe or a run")),
    "an export to evaluate": (
        exported,
        ("evaluate", "{place}/export", *EVALUATE[2:]),
        ("export: is an export for CTranslate2; give a run or a model",),
    ),
    "graphs of a quantization that they have not": (
        None,
        ("export", MODEL, "--to", "onnx", "--quantization", "int16", "--output", "{place}/new"),
        ("quantization: 'int16' is not one of float32, int8, float16, those of onnx",),
    ),
    "a page whose runtime is not there": (
        None,
        ("export", MODEL, "--to", "web", "--runtime", "{place}/text", "--output", "{place}/new"),
        ("text: is not the folder of the npm package @huggingface/transformers",),
    ),
    "a runtime of no page": (
        None,
        ("export", MODEL, "--to", "onnx", "--runtime", "{place}/text", "--output", "{place}/new"),
        ("--runtime: is what a page runs on; give --to web, or leave it out",),
    ),
    "an export of graphs": (
        lambda place: ((place / "graphs" / "onnx").mkdir(parents=True), (place / "graphs" / "config.json").write_text("{}")),
        ("export", "{place}/graphs", "--to", "ctranslate2", "--output", "{place}/new"),
        ("graphs: is an export for ONNX Runtime", "give a model"),
    ),
    "a model to serve": (None, ("serve", MODEL), ("is no export for CTranslate2; make one with paretokd export",)),
    "an export to serve that says nothing of languages": (
        exported,
        ("serve", "{place}/export"),
        ("export: does not say which languages it translates; export the model again",),
    ),
    "a server of no lines": (None, ("serve", "{place}/export", "--max_lines", "0"), ("--max_lines: 0 is no number above 0",)),
    "a server of no time": (None, ("serve", "{place}/export", "--timeout", "nan"), ("--timeout: nan is no number above 0",)),
    "a server at no host": (
        None,
        ("serve", "{place}/export", "--host", ""),
        ("--host: is empty; 127.0.0.1 is this machine alone",),
    ),
    "a server with an empty key": (
        None,
        ("serve", "{place}/export", "--api_key", ""),
        ("--api_key: is empty, which would let everybody in; give one, or leave it (and PARETOKD_API_KEY) out",),
    ),
    "an export to serve whose pairs are no pairs": (
        lambda place: (exported(place), (place / "export" / "proof.json").write_text('{"pairs": ["fr-en"]}')),
        ("serve", "{place}/export"),
        ("export: does not say which languages it translates",),
    ),
    "a runtime whose package is damaged": (
        lambda place: ((place / "js").mkdir(), (place / "js" / "package.json").write_text("{bad")),
        ("export", MODEL, "--to", "web", "--runtime", "{place}/js", "--output", "{place}/new"),
        ("package.json: cannot be read (",),
    ),
    "graphs to translate with": (
        lambda place: ((place / "graphs" / "onnx").mkdir(parents=True), (place / "graphs" / "config.json").write_text("{}")),
        ("translate", "{place}/graphs", "{place}/recipe.yaml"),
        ("graphs: is an export for ONNX Runtime", "or an export for CTranslate2"),
    ),
    "a server at no port": (
        None,
        ("serve", "{place}/export", "--port", "99999"),
        ("--port 99999: cannot be had on 127.0.0.1",),
    ),
    "an export to export": (
        exported,
        ("export", "{place}/export", "--to", "ctranslate2", "--output", "{place}/new"),
        ("export: is an export for CTranslate2; give a model",),
    ),
    "a training's checkpoint to translate with": (
        None,
        ("translate", "{place}/run/checkpoints/checkpoint-4", "{place}/recipe.yaml"),
        ("checkpoint-4: is a checkpoint of a training, which goes on with paretokd train RUN --resume; give a model",),
    ),
    "a text for a recipe": (None, ("train", "{place}/text/bs-en/train.en"), ("train.en: is a file; give a recipe or a run",)),
    "a text for a model": (None, ("translate", "{place}/text"), ("text: is a folder in which there is no run and no model",)),
    "students for a run": (
        None,
        ("report", "{place}/run/students"),
        ("students: is a folder with models in it, such as", "students/2-2; give a run"),
    ),
    "a run that is not there": (None, ("report", "./nothing"), ("./nothing: is not there; give a run",)),
    "a Hub id for a run": (None, ("report", "user/name"), ("user/name: is no folder here; give a run",)),
    "shrinking what is not there": (
        None,
        shrunk("{place}/nowhere"),
        ("nowhere: is not there; give a model",),
    ),
    "shrinking a run": (None, shrunk("{place}/run"), ("run: is a run; its students are 2-2, such as",)),
    "shrinking without text": (
        None,
        ("shrink", "{place}/run/teacher", "--pairs", "bs-en", "--output", "{place}/out"),
        ("shrink.text: name files of text in the source language",),
    ),
    "shrinking for text that is not there": (
        None,
        shrunk("{place}/run/teacher", "--text", "{place}/nothing.{{source}}"),
        ("nothing.bs: no such file",),
    ),
    "shrinking for one file in two languages": (
        write("mono.bs", LINES),
        shrunk("{place}/run/teacher", "--pairs", "bs-en", "en-bs"),
        ("--text: ", "put {source} into the name"),
    ),
    "shrinking to nothing": (
        None,
        shrunk("{place}/run/teacher", "--vocab_size", "0"),
        ("shrink.vocab_size: 0 is not 1 or more",),
    ),
    "shrinking below the specials": (
        write("mono.bs", LINES),
        shrunk("{place}/run/teacher", "--vocab_size", "5"),
        ("vocab_size: 5 is below the", "special tokens, tags and characters"),
    ),
    "shrinking by an engine that is none": (
        None,
        shrunk("{place}/run/teacher", "--shrink.engine", "marian"),
        ("shrink.engine: 'marian' is not one of",),
    ),
    "shrinking with a quantization of nothing": (
        None,
        shrunk("{place}/run/teacher", "--shrink.quantization", "int8"),
        ("shrink.quantization int8: needs shrink.engine ctranslate2",),
    ),
    "shrinking over a finished run": (
        write("mono.bs", LINES),
        ("shrink", "{place}/run/teacher", "--pairs", "bs-en", "--text", "{place}/mono.bs", "--output", "{place}/run"),
        ("run: holds a finished run; give --extend",),
    ),
    "shrinking to students that are none": (
        write("mono.bs", LINES),
        shrunk("{place}/run/teacher", "--depths", "9-9"),
        ("evaluation.depths: ", "has only 2-2 layers"),
    ),
    "shrinking with everything held out": (
        write("mono.bs", LINES),
        shrunk("{place}/run/teacher", "--shrink.held_out", "1"),
        ("shrink.held_out: 1 leaves no text of bs-en to train on; lower it",),
    ),
    "shrinking a model of another family": (
        lambda place: set_json(place / "run" / "teacher" / "config.json", "model_type", "bart"),
        shrunk("{place}/run/teacher"),
        ("is a model of the family bart; only Marian models are shrunk",),
    ),
    "shrinking a model without pieces": (
        lambda place: (place / "run" / "teacher" / "source.spm").unlink(),
        shrunk("{place}/run/teacher"),
        ("teacher", "tokenizer"),
    ),
    "shrinking pickled weights": (
        lambda place: (place / "run" / "teacher" / "model.safetensors").rename(place / "run" / "teacher" / "pytorch_model.bin"),
        shrunk("{place}/run/teacher"),
        ("holds no model.safetensors; with --shrink.pickled_weights",),
    ),
    "shrinking pickled weights that are none": (
        lambda place: (place / "run" / "teacher" / "model.safetensors").rename(place / "run" / "teacher" / "pytorch_model.bin"),
        shrunk("{place}/run/teacher", "--shrink.pickled_weights"),
        ("pytorch_model.bin: its weights cannot be used",),
    ),
    "an anchor that is not there": (None, (*NEW, "--anchor", "{place}/nowhere"), ("nowhere: cannot be loaded",)),
    "an anchor of another vocabulary": (
        None,
        (*NEW, "--anchor", "{place}/run/teacher", "--tokenizer.from_pretrained", "{place}/other"),
        ("other",),
    ),
    "a negative weight of the anchor": (None, (*NEW, "--anchor_weight", "-1"), ("anchor_weight: -1.0 is out of range",)),
    "a training over its anchor": (
        None,
        ("train", "{place}/recipe.yaml", *TINY, "--anchor", "{place}/run/teacher", "--overwrite"),
        ("training.output_dir", "run"),
    ),
    "nothing held out": (
        None,
        shrunk("{place}/run/teacher", "--shrink.held_out", "0"),
        ("shrink.held_out: 0 is not 1 or more",),
    ),
    "going on and beginning anew": (
        None,
        ("train", "{place}/run", "--resume", "--overwrite"),
        ("give one of --resume, --overwrite",),
    ),
    "longer and anew": (None, (*LONGER, "--overwrite"), ("give one of --resume, --overwrite and --extend",)),
    "longer twice": (None, (*LONGER, "--extend", "3"), ("give one of --resume, --overwrite and --extend, once",)),
    "longer by nothing": (None, LONGER[:-1], ("argument --extend: expected one argument",)),
    "validation never": (None, (*NEW, "--eval_steps", "0"), ("eval_steps: 0 is not above 0", "strategy to no")),
    "translations by something else": (
        None,
        (*NEW, "--generation_config", "x"),
        ("generation_config: set generation_num_beams",),
    ),
}


# found by others who read the code for what nobody had tried
def weights(change):
    """The teacher of the run with something done to its tensors."""

    def spoil(place):
        path = place / "run" / "teacher" / "model.safetensors"
        safetensors.torch.save_file(change(safetensors.torch.load_file(path)), path, {"format": "pt"})

    return spoil


INTO_STUDENTS = ("translate", "{place}/run/teacher", "{place}/recipe.yaml")
CASES |= {
    "code beside a model": (
        both(
            write("run/teacher/code.py", "open('pwned', 'w')"),
            edit("run/teacher/config.json", model_type="mine", auto_map={"AutoConfig": "code.Mine"}),
        ),
        INTO_STUDENTS,
        ("teacher: no usable checkpoint", "custom code"),
    ),
    "weights without a layer": (
        weights(lambda found: {name: each for name, each in found.items() if "encoder.layers.1.fc1" not in name}),
        INTO_STUDENTS,
        ("teacher: no usable checkpoint (its weights lack", "fc1.bias and 1 more"),
    ),
    "weights that are no numbers": (
        weights(lambda found: {name: each * float("nan") for name, each in found.items()}),
        ("export", "{place}/run/teacher", "--to", "ctranslate2", "--output", "{place}/out"),
        ("teacher: no usable checkpoint", "no finite numbers"),
    ),
    "a tokenizer without length": (
        edit("run/teacher/tokenizer_config.json", model_max_length=0),
        INTO_STUDENTS,
        ("model_max_length is 0, and not 2 tokens or more",),
    ),
    "layers that are no number": (
        edit("run/teacher/config.json", encoder_layers="2"),
        REPORT,
        ("teacher/config.json: ", "encoder_layers is '2'"),
    ),
    "results of something that is no pair": (
        write("run/results.json", lambda content: content.replace(b"bs-en", b"foo")),
        ("students", "{place}/run"),
        ("results.json: cannot be read (language pair 'foo'",),
    ),
    "results of a pair that the recipe lacks": (
        write("run/results.json", lambda content: content.replace(b"bs-en", b"xx-en")),
        REPORT,
        ("results.json: has scores of xx-en, which recipe.yaml does not name", "paretokd evaluate"),
    ),
    "a peer before the first": (
        write("run/results.json", lambda content: content.replace(b'"peer": null', b'"peer": -3')),
        REPORT,
        ("results.json: cannot be read (peer -3 is not 1 or more)",),
    ),
    "a finished run without its teacher": (
        remove("run/teacher"),
        ("students", "{place}/run"),
        ("its teacher, model or peers are gone", "remove", "results.json", "--resume writes them again"),
    ),
    "a run without results or checkpoints": (
        both(remove("run/results.json"), remove("run/checkpoints")),
        ("train", "{place}/run"),
        ("holds an unfinished run; give --resume",),
    ),
    "a number for a section": (
        write("recipe.yaml", lambda content: content + b"1: {a: 1}\n"),
        NEW,
        ("recipe.yaml: unknown section 1",),
    ),
    "a folder whose name is no text": (None, (*NEW, "--data.data_dir", "\udcff"), ("holds bytes that are not UTF-8",)),
    "lines beyond counting": (None, (*INTO_STUDENTS, "--buffer", "9" * 30), ("--buffer", "is more than can be counted")),
    "a family in the root": (
        write("mono.bs", LINES),
        shrunk("{place}/run/teacher", "--output", "/"),
        ("training.output_dir: / has nothing beside it",),
    ),
    "a header of one language": (
        both(write("text/a.tsv", "en\tfr\none\tun\n"), write("text/bs-en/x", "")),
        (*NEW, "--data.train", "a.tsv"),
        ("a.tsv:1: seems to be a header, and has no column bs",),
    ),
    "text in another format": (
        write("text/a.tmx", "<tmx>"),
        (*NEW, "--data.train", "a.tmx"),
        ("a.tmx: its format is not read",),
    ),
}


def test_there_are_enough_cases():
    assert len(CASES) >= 274


@pytest.mark.parametrize("name", CASES)
def test_bad_input_ends_in_one_error(name, place, monkeypatch, capfd):
    spoil, words, wanted = CASES[name]
    if spoil:
        spoil(place)
    before = digest(place)
    capfd.readouterr()
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["paretokd", *(word.format(place=place) for word in words)])
    code, error = cli.main(), capfd.readouterr().err
    assert code == (2 if "--help)" in error else 1)
    line = next(line for line in error.splitlines() if line.startswith("error: "))
    for part in wanted:
        assert part in line, line
    assert "Traceback" not in error
    assert "hf_abcdefgh" not in error
    after = digest(place)
    assert {path: after.get(path) for path in before} == before, "what was there is as it was"
    assert not (place / "pwned").exists()
