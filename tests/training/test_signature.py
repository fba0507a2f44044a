import datasets

from hf_paretokd import AllInOneConfig, ParetoMutualConfig, PlainConfig
from hf_paretokd.training.signature import data_hashes, training_signature


def ids(*rows: tuple[list[int], list[int]]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"input_ids": [row[0] for row in rows], "labels": [row[1] for row in rows]})


def test_the_data_hash_depends_on_every_token_and_on_nothing_else():
    first, second = ids(([1, 2], [3]), ([4], [5, 6])), ids(([7], [8]))
    base = data_hashes({"de-en": first, "fr-en": second})[0]
    assert len(base) == 8
    others = [
        {"de-en": first},
        {"de-en": ids(([1, 2], [3]), ([4], [5, 7])), "fr-en": second},
        {"de-en": ids(([1, 2], [3, 5]), ([4], [6])), "fr-en": second},  # the same ids, another boundary
        {"de-en": ids(([4], [5, 6]), ([1, 2], [3])), "fr-en": second},
        {"fr-en": first, "de-en": second},
        {"fr-en": second, "de-en": first},  # another order, by which pairs are drawn
    ]
    assert len({base, *(data_hashes(each)[0] for each in others)}) == 7
    assert data_hashes({"de-en": first.select([0, 1]), "fr-en": second})[0] == base, "however the rows are stored"


def test_signatures_name_what_makes_a_training(tmp_path):
    config = AllInOneConfig(output_dir=str(tmp_path), max_steps=100, max_tokens=512, learning_rate=1e-3, seed=7)
    fields = {"method": "all_in_one", **config.signature_fields()}
    signature = training_signature({**fields, "data": "1f3a9c2b", "version": "0.1.0"})
    assert signature.startswith("method:all_in_one|K:2|alpha:1.5|beta:0.5|eta:1.1|stage2:0|tau:1|updates:100|lr:0.001|")
    assert signature.endswith("|seed:7|tokens:512x1|views:shared|data:1f3a9c2b|version:0.1.0")
    changed = AllInOneConfig(output_dir=str(tmp_path), detach_senior=True, candidates=["3-2", "2-2"]).signature_fields()
    assert (changed["detach_senior"], changed["candidates"]) == (True, ["3-2", "2-2"])
    peers = ParetoMutualConfig(output_dir=str(tmp_path), strategy="bi", update_interval=50).signature_fields()
    assert (peers["rule"], peers["alpha"], peers["tau"], peers["update_interval"]) == ("bi", 0.4, [1.0, 5.0], 50)
    assert "loss_memory" not in PlainConfig(output_dir=str(tmp_path), loss_memory=2.0).signature_fields()
