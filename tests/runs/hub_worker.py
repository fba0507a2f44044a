"""Uploads by the real client to a Hub on localhost, in a process of its own: addresses are read when the client is imported.

usage: hub_worker.py RUN OUTPUT; writes what happened as JSON.
"""

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path

from hub_server import Fault, Hub

hub = Hub()
os.environ |= {
    "HF_ENDPOINT": hub.url,
    "HF_TOKEN": hub.token,
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
os.environ.pop("HF_HUB_OFFLINE", None)

import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_paretokd import AllInOneConfig, AllInOneTrainer, push_run
from hf_paretokd.cli.training import finish_run
from hf_paretokd.errors import ModelError, UploadError
from hf_paretokd.hub.upload import push
from hf_paretokd.models.files import local_checkpoint
from hf_paretokd.runs.prepare import check_start, keep_models
from hf_paretokd.runs.push import planned_uploads
from hf_paretokd.runs.recipe import load_recipe

torch.set_num_threads(1)
run, output = Path(sys.argv[1]), Path(sys.argv[2])
facts: dict[str, object] = {}
quick = {"first_wait": 0.01}


def commits() -> dict[str, int]:
    return {name: len(repository.commits) for name, repository in hub.repositories.items()}


def failure(to: str, faults: list[Fault], token: str | None = None, **options: float) -> dict[str, object]:
    """The error of a push under faults, and how often the Hub was asked."""
    hub.faults, before = faults, len(hub.requests)
    try:
        push(planned_uploads(run, to), token=token, **{**quick, **options})
        error = None
    except UploadError as refused:
        error = str(refused)
    hub.faults = []
    return {"error": error, "requests": hub.requests[before:]}


with hub:
    # passing trouble: a lost connection, an overloaded server, a full queue
    hub.faults = [Fault("PUT", "/lfs/", 1, 500), Fault("POST", "/commit/", 2, 503), Fault("POST", "/api/repos/create", 1, 429)]
    facts["addresses"] = push(planned_uploads(run, "anna/plain"), **quick)
    facts["after_trouble"] = commits()
    facts["faults_left"] = sum(fault.times for fault in hub.faults)
    facts["files"] = {name: sorted(repository.files) for name, repository in hub.repositories.items()}
    facts["private"] = [repository.private for repository in hub.repositories.values()]
    facts["uploaded_text"] = {
        f"{name}/{path}": content.decode()
        for name, repository in hub.repositories.items()
        for path, content in repository.files.items()
        if not path.endswith((".safetensors", ".spm"))
    }
    push_run(run, "anna/plain")
    facts["after_again"] = commits()

    # read back
    local = AutoModelForSeq2SeqLM.from_pretrained(run / "students" / "2-2").state_dict()
    remote = AutoModelForSeq2SeqLM.from_pretrained("anna/plain-2-2").state_dict()
    facts["weights_equal"] = all(torch.equal(local[name], remote[name]) for name in local) and set(local) == set(remote)
    metadata = ModelCard.load("anna/plain-2-2").data
    facts["metadata"] = {
        "base_model": metadata.base_model,
        "language": metadata.language,
        "license": metadata.license,
        "pipeline_tag": metadata.pipeline_tag,
        "datasets": metadata.datasets,
        "tags": metadata.tags,
        "results": [
            [each.dataset_name, each.metric_type, each.metric_value, each.metric_args] for each in metadata.eval_results
        ],
    }

    # at a revision, which may be none
    sha = hub.repositories["anna/plain-2-2"].sha
    facts["at_a_revision"] = Path(local_checkpoint("anna/plain-2-2", sha)).name == sha
    facts["not_to_be_had"] = []
    for name, revision in (("anna/plain-2-2", "v9"), ("anna/nothing", None), ("nothing", "main")):
        try:
            local_checkpoint(name, revision)
        except ModelError as refused:
            facts["not_to_be_had"].append(str(refused))

    # the card's own snippets, as they stand
    card = hub.repositories["anna/plain-2-2"].files["README.md"].decode()
    printed = []
    for snippet in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        with contextlib.chdir(output.parent), contextlib.redirect_stdout(io.StringIO()) as text:
            exec(snippet, {})
        printed.append(text.getvalue())
    facts["snippets"] = printed

    # cut off in the middle, then again
    stuck = [Fault("POST", "/api/models/anna/cut-2-2/commit", 99, 502)]
    facts["cut"] = failure("anna/cut", stuck)["error"]
    facts["after_cut"] = commits()
    facts["cut_again"] = failure("anna/cut", [])
    facts["after_cut_again"] = commits()

    # refusals end at once, silence ends after four attempts
    facts["unauthorised"] = failure("anna/refused", [], token="hf_wrong")
    facts["forbidden"] = failure("anna/refused", [Fault("POST", "/api/repos/create", 99, 403)])
    facts["silent"] = failure("anna/refused", [Fault("POST", "/api/repos/create", 99, 500, hang=0.6)], timeout=0.2)
    wrong = {"errors": [{"message": '"license" must be one of …'}], "warnings": []}
    facts["card"] = failure("anna/refused", [Fault("POST", "/api/validate-yaml", 99, 400, body=wrong)])
    facts["names"] = []
    for name in ("anna", "a/b/c", "anna/..", "anna/wrong name", "anna/my-", "anna/" + "x" * 93):
        try:
            push_run(run, name)
        except UploadError as error:
            facts["names"].append(str(error))

    # one repository with folders
    push_run(run, "anna/all", layout="subfolders", depths=["2-2"])
    facts["subfolders"] = sorted(hub.repositories["anna/all"].files)
    AutoModelForSeq2SeqLM.from_pretrained("anna/all", subfolder="2-2")
    AutoTokenizer.from_pretrained("anna/all", subfolder="2-2")

    # a trainer's own
    rows = Dataset.from_dict({"input_ids": [[5, 6, 0]] * 4, "labels": [[7, 8, 0]] * 4})
    options = {"hub_model_id": "anna/script", "push_to_hub": True, "report_to": "none", "disable_tqdm": True, "bf16": False}
    trainer = AllInOneTrainer(
        AutoModelForSeq2SeqLM.from_pretrained(run / "teacher"),
        AllInOneConfig(
            output_dir=str(output.parent / "script"), max_steps=2, eval_strategy="no", mutual_start=0.0, save_steps=1, **options
        ),
        train_dataset={"fr-en": rows},
        processing_class=AutoTokenizer.from_pretrained(run / "teacher"),
    )
    trainer.train()
    facts["trainer_before"] = [name for name in hub.repositories if "script" in name]
    trainer.push_to_hub()
    facts["trainer"] = {name: sorted(each.files) for name, each in hub.repositories.items() if "script" in name}
    facts["trainer_card"] = hub.repositories["anna/script-2-2"].files["README.md"].decode()

    # … and at the end of a recipe
    words = ["--output_dir", str(output.parent / "recipe"), "--evaluation.splits", "[]"]
    recipe = load_recipe(run / "recipe.yaml", [*words, "--push_to_hub", "true", "--hub_model_id", "anna/recipe"])
    check_start(recipe)
    trainer.args.hub_model_id = "anna/recipe"
    hub.faults = [Fault("POST", "/api/models/anna/recipe-2-2/commit", 99, 403)]
    try:
        finish_run(keep_models(recipe, trainer), trainer)
    except UploadError as error:
        facts["recipe_cut"] = str(error)
    hub.faults = []
    recipe.save(recipe.run_folder / "recipe.yaml")  # as `prepare` does
    push_run(recipe.run_folder, "anna/recipe")  # as that says
    facts["recipe"] = {name: sorted(each.files) for name, each in hub.repositories.items() if "recipe" in name}

output.write_text(json.dumps(facts))
