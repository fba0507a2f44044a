"""A real corpus, tokenizer and small models, made once a session; nothing here needs a network."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="hf_paretokd-tests-")

import datasets
import pytest
import torch
import yaml
from runtimes import OLD_STACK

from hf_paretokd import (
    AllInOneConfig,
    AllInOneTrainer,
    Depth,
    LanguagePair,
    ModelConfig,
    build_model,
    encode_split,
    save_students,
    train_tokenizer,
)
from hf_paretokd.data.corpus import DataConfig, ParallelText, load_text
from hf_paretokd.data.demo_corpus import write_demo_corpus
from hf_paretokd.methods.pareto_mutual import AT_ONCE
from hf_paretokd.methods.registry import trainer_of

SMALL = {
    "d_model": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 96,
}


torch.set_num_threads(1)  # faster for models this small, and rounding depends on it


@pytest.fixture(autouse=True)
def _one_thread():
    yield
    torch.set_num_threads(1)  # a CTranslate2 translator takes its own number for that of the process


@pytest.fixture(scope="session", autouse=True)
def _float32():
    """Exact comparisons everywhere: the default precision would depend on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_paretokd.training.arguments.has_bf16", lambda cpu: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_latencies():
    """Models that have learnt nothing never stop, so that timing them would take most of the suite's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_paretokd.evaluation.latency.SENTENCES", 2)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_cache_left():
    yield
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> Path:
    """CLDR phrases fr-en and bs-en as line-aligned files."""
    folder = tmp_path_factory.mktemp("text")
    write_demo_corpus(folder, {"fr": 1500, "bs": 300}, {"validation": 40, "test": 40})
    return folder


@pytest.fixture(scope="session")
def data_config(text_folder) -> DataConfig:
    return DataConfig(pairs=["fr-en", "bs-en"], data_dir=str(text_folder))


@pytest.fixture(scope="session")
def texts(data_config):
    return {split: load_text(data_config, split) for split in ("train", "validation", "test")}


@pytest.fixture(scope="session")
def tokenizer(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return train_tokenizer(texts["train"], folder, vocab_size=900, target_tags="always", max_length=96)


@pytest.fixture(scope="session")
def ciphered_tokenizer(texts, tmp_path_factory):
    """One that was made for two ciphers."""
    folder = tmp_path_factory.mktemp("ciphered")
    return train_tokenizer(texts["train"], folder, vocab_size=1500, target_tags="always", max_length=96, cipher_keys=[1, 2])


@pytest.fixture(scope="session")
def encoded(texts, tokenizer) -> dict[str, datasets.DatasetDict]:
    return {split: encode_split(pairs, tokenizer) for split, pairs in texts.items()}


@pytest.fixture
def new_model(tokenizer):
    """Builds a small Marian model; keyword arguments override its shape."""

    def build(seed: int = 3, known=tokenizer, **shape):
        config = ModelConfig(**{**SMALL, "encoder_layers": 3, "decoder_layers": 3, "dropout": 0.0, **shape})
        return build_model(config, known, seed)

    return build


@pytest.fixture
def trainer_defaults() -> dict:
    """What `new_trainer` builds unless a test says otherwise; modules have their own."""
    return {}


@pytest.fixture
def new_trainer(new_model, encoded, tokenizer, tmp_path, trainer_defaults):
    """Builds the trainer of a method on the phrases, with small models; other arguments are fields of its configuration."""

    def build(
        method=None,
        model=None,
        data=encoded,
        train="train",
        folder="run",
        processing_class=tokenizer,
        callbacks=(),
        others=None,
        **fields,
    ):
        own = dict(trainer_defaults)
        method, dropout = method or own.pop("method", "plain"), own.pop("dropout", 0.0)
        own.pop("method", None)
        if method == "all_in_one":
            own.setdefault("mutual_start", 0.5)  # two stages: the longer way
        if method.startswith("pareto"):
            own.setdefault("strategy", "bi")
            strategy = {**own, **fields}["strategy"]
            own.setdefault("distill_at_once", strategy in AT_ONCE and "update_interval" not in {**own, **fields})
        defaults = {
            "output_dir": str(tmp_path / folder),
            "max_steps": 6,
            "max_tokens": 400,
            "warmup_steps": 2,
            "eval_steps": 3,
            "logging_steps": 1,
            "learning_rate": 3e-3,
            "disable_tqdm": True,
        }
        trainer_class = trainer_of(method)
        config = trainer_class.config_class(**{**defaults, **own, **fields})
        peers = len(config.temperatures)
        if model is None:
            model = (
                [new_model(seed=seed, dropout=dropout) for seed in range(1, peers + 1)]
                if peers > 1
                else new_model(dropout=dropout)
            )
        return trainer_class(
            model,
            config,
            train_dataset=data[train],
            eval_dataset=data["validation"],
            processing_class=processing_class,
            callbacks=list(callbacks),
            **(others or {}),
        )

    return build


@pytest.fixture
def recipe_file(text_folder, tmp_path):
    """A recipe of All-in-One KD on the smaller pair."""
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "method": "all_in_one",
                "data": {"pairs": ["bs-en"], "data_dir": str(text_folder)},
                "training": {"output_dir": str(tmp_path / "run")},
                "all_in_one": {"num_students": 2},
            }
        )
    )
    return path


@pytest.fixture
def batch(encoded, tokenizer):
    """One padded micro-batch of real phrases."""
    from hf_paretokd.data.batches import collate

    return collate([encoded["train"]["fr-en"][index] for index in range(6)], tokenizer.pad_token_id)


# ---- a model that knows something ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def short(encoded) -> list[int]:
    """The 150 shortest French training phrases."""
    lengths = [len(ids) for ids in encoded["train"]["fr-en"]["input_ids"]]
    return sorted(range(len(lengths)), key=lambda index: lengths[index])[:150]


@pytest.fixture(scope="session")
def sentences(texts, short):
    return [next(iter(texts["train"].values())).sources[index] for index in short]


@pytest.fixture(scope="session")
def trained(encoded, short, tokenizer, tmp_path_factory):
    """A teacher that knows the short phrases and those of the docs by heart, so that its translations are clear."""
    shown = ParallelText(LanguagePair("fr", "en"), "train", ["dans 3 heures", "il y a 2 jours"], ["in 3 hours", "2 days ago"])
    shown = encode_split({shown.pair: shown}, tokenizer)["fr-en"]
    shape = {**SMALL, "d_model": 64, "encoder_layers": 3, "decoder_layers": 2, "dropout": 0.0}
    config = AllInOneConfig(
        output_dir=str(tmp_path_factory.mktemp("run")),
        max_steps=300,  # sure enough of itself for int8 on every CPU
        max_tokens=600,
        learning_rate=4e-3,
        warmup_steps=30,
        lr_scheduler_type="linear",
        mutual_start=0.0,
        eval_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = AllInOneTrainer(
        build_model(ModelConfig(**shape), tokenizer, 1),
        config,
        train_dataset=datasets.concatenate_datasets([encoded["train"]["fr-en"].select(short), shown]),
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer.model.teacher.eval()


@pytest.fixture(scope="session")
def students(trained, tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("students")
    pairs = [LanguagePair("fr", "en"), LanguagePair("bs", "en")]
    save_students(trained, tokenizer, [Depth(3, 2), Depth(2, 2)], folder, "all_in_one", pairs)
    return folder


@pytest.fixture(scope="session")
def transformers_4(tmp_path_factory) -> Path:
    """A folder for PYTHONPATH with transformers 4: its three packages, which run on the torch that is there."""
    folder = tmp_path_factory.mktemp("transformers-4")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *OLD_STACK]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        if "NewConnectionError" in made.stderr or "Could not find a version" in made.stderr:
            pytest.skip("needs a package index, to install transformers 4 from")
        pytest.fail(made.stderr)
    return folder
