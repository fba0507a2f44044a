"""Prepares and distils on a local Ray cluster of two workers, one of which is killed in the middle (`make ray`; needs Ray).

python tests/ray_check.py FOLDER
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
import datasets
import pytest
import yaml

SENTENCES = 30_000
SMALL = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
SMALL |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}


def main(folder: Path) -> None:
    """All checks, one after the other; raises at the first that fails."""
    shutil.rmtree(folder, ignore_errors=True)
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
    recipe = write_recipe(folder)
    prepared(folder, recipe)
    distilled(folder, recipe)
    unreachable()


def write_recipe(folder: Path) -> dict:
    """Made-up text, and a recipe for it."""
    for split, count in (("train", SENTENCES), ("validation", 20), ("test", 20)):
        place = folder / "text" / "de-en"
        place.mkdir(parents=True, exist_ok=True)
        for side in ("de", "en"):
            words = (f"{side}{number % 97} {'ja nein vielleicht '[: number % 19]}{split} {number}" for number in range(count))
            (place / f"{split}.{side}").write_text("".join(f"{line}\n" for line in words))
    recipe = {
        "method": "plain",
        "data": {"pairs": ["de-en"], "data_dir": str(folder / "text")},
        "tokenizer": {"vocab_size": 300},
        "model": SMALL,
        "training": {"output_dir": str(folder / "run"), "max_steps": 2, "eval_steps": 2, "max_tokens": 500, "bf16": False},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return recipe


def killing(seen: Callable[[], bool]) -> threading.Thread:
    """Kills one worker once something is seen."""

    def kill() -> None:
        while not seen():
            time.sleep(0.02)
        found = subprocess.run(["pgrep", "-f", "ray::.*(Prepar|Translat|Map)"], capture_output=True, text=True, check=False)
        workers = [int(line) for line in found.stdout.split()]
        assert workers, "a worker is there to be killed"
        os.kill(workers[0], signal.SIGKILL)
        killed.append(workers[0])

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


killed: list[int] = []


def prepared(folder: Path, recipe: dict) -> None:
    """The cluster's token ids are those of one process."""
    from hf_paretokd.models.files import load_tokenizer
    from hf_paretokd.runs.cluster import Cluster, prepare_on
    from hf_paretokd.runs.recipe import build_recipe
    from hf_paretokd.runs.text import new_tokenizer, prepare_text

    whole = build_recipe(recipe, trainable=False)
    tokenizer = new_tokenizer(whole)
    parts = folder / "cache" / "hf_paretokd"
    thread = killing(lambda: any(parts.glob("*.parts/*.lease")))
    begun = time.monotonic()
    prepare_on(Cluster("local", 2), recipe, str(tokenizer))
    thread.join(60)
    found = prepare_text(whole, load_tokenizer(tokenizer)).encoded["train"]["de-en"][:]
    print(f"prepared in {time.monotonic() - begun:.0f} s, worker {killed} killed", flush=True)
    for path in parts.iterdir():
        if path != tokenizer and path.is_dir():
            shutil.rmtree(path)
    alone = prepare_text(whole, load_tokenizer(tokenizer)).encoded["train"]["de-en"][:]
    assert len(alone["labels"]) == SENTENCES
    assert found == alone, "nothing lost, nothing doubled"


def distilled(folder: Path, recipe: dict) -> None:
    """The cluster's corpus is that of one process."""
    from hf_paretokd.cli.main import main as command
    from hf_paretokd.runs.cluster import Cluster
    from hf_paretokd.runs.distill import SHARD, distill

    recipe["data"]["max_sentence_pairs"] = {"de-en": 5 * SHARD + 7}
    recipe["evaluation"] = {"splits": []}
    (folder / "small.yaml").write_text(yaml.safe_dump(recipe))
    assert command(["train", str(folder / "small.yaml")]) == 0
    options = {"model": str(folder / "run"), "num_beams": 1}
    distill(output=folder / "alone", **options)
    place = folder / "spread"
    before = len(killed)
    thread = killing(lambda: any(place.glob("**/*0000*")) or len(list(place.rglob("*.txt"))) > 0)
    begun = time.monotonic()
    record = distill(output=place, cluster=Cluster("local", 2), **options)
    thread.join(60)
    print(f"distilled in {time.monotonic() - begun:.0f} s, worker {killed[before:]} killed", flush=True)
    for side in ("de", "en"):
        assert (place / "de-en" / f"train.{side}").read_bytes() == (folder / "alone" / "de-en" / f"train.{side}").read_bytes()
    assert record.lines == {"de-en": 5 * SHARD + 7}
    assert len(killed) > before, "a worker was killed"


def unreachable() -> None:
    """A cluster that is not there is one line."""
    from hf_paretokd.errors import RecipeError
    from hf_paretokd.runs.cluster import Cluster

    with pytest.raises(RecipeError, match=r"the cluster 127\.0\.0\.1:1 cannot be reached"), Cluster("127.0.0.1:1").joined():
        pass


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
