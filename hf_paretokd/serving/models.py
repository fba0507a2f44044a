"""The models of a server: exports for CTranslate2, by language pair."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hf_paretokd.data.languages import asked, configured_prefix, language_codes
from hf_paretokd.data.pairs import LanguagePair
from hf_paretokd.errors import ServingError
from hf_paretokd.inference.ctranslate import check_installed, ctranslate_decoder
from hf_paretokd.inference.lines import LineTranslator
from hf_paretokd.inference.targets import NONE, Targets
from hf_paretokd.layout import CONFIG, CONVERTED_WEIGHTS, PROOF
from hf_paretokd.models.files import load_tokenizer, usable_length
from hf_paretokd.serving.batching import Batching
from hf_paretokd.utils.files import load_json

AUTO = "auto"  # the source language is not said


@dataclass(frozen=True)
class Served:
    """A language pair of an export.

    Args:
        translator: what makes ids of lines, and lines of ids.
        batching: what decodes in between, the same for all pairs of the export.
    """

    translator: LineTranslator
    batching: Batching


@dataclass(frozen=True)
class Models:
    """What a server translates.

    Args:
        served: by pair.
    """

    served: Mapping[LanguagePair, Served]

    @property
    def batching(self) -> list[Batching]:
        """Of every export."""
        return list(dict.fromkeys(each.batching for each in self.served.values()))

    @classmethod
    def load(cls, folders: Iterable[Path], num_beams: int, max_tokens: int, most: int) -> "Models":
        """The models in some folders.

        Args:
            folders: that `paretokd export` wrote.
            num_beams: 1 for greedy search.
            max_tokens: source tokens in a batch, padding included.
            most: sentences that may wait, of each export.

        Raises:
            ServingError: a folder is no export for CTranslate2, says not what it translates, or has a pair of another one.
            ModelError: CTranslate2 is not installed.
        """
        check_installed()
        served: dict[LanguagePair, Served] = {}
        for folder in folders:
            found = loaded(folder, num_beams, max_tokens, most)
            if both := found.keys() & served.keys():
                raise ServingError(f"{folder}: translates {min(map(str, both))}, as another export does; leave one out")
            served |= found
        return cls(served)

    def find(self, source: str, target: str) -> Served:
        """What translates from one language into another; the source may be `auto` where only one goes there.

        Raises:
            ServingError: there is none, or there are several.
        """
        found = [pair for pair in self.served if pair.target == target and source in (pair.source, AUTO)]
        if len(found) == 1:
            return self.served[found[0]]
        known = ", ".join(map(str, self.served))
        if found:
            raise ServingError(f"source: several languages go into {target}; name one of {', '.join(map(str, found))}")
        raise ServingError(f"{source}-{target}: is no pair that is translated here ({known})")


def loaded(folder: Path, num_beams: int, max_tokens: int, most: int) -> dict[LanguagePair, Served]:
    """The pairs of one export, which share its model.

    Raises:
        ServingError: it is none, or says not what it translates.
    """
    if not (folder / CONVERTED_WEIGHTS).is_file():
        raise ServingError(f"{folder}: is no export for CTranslate2; make one with paretokd export MODEL --to ctranslate2")
    proof = load_json(folder / PROOF) if (folder / PROOF).is_file() else None
    pairs = proof.get("pairs") if isinstance(proof, dict) else None
    if not (isinstance(pairs, dict) and pairs and all(isinstance(tag, str) for tag in pairs.values())):
        raise ServingError(f"{folder}: does not say which languages it translates; export the model again, with --data.pairs")
    tokenizer, config = load_tokenizer(folder), load_json(folder / CONFIG)
    limit = usable_length(None, tokenizer)
    decoder = ctranslate_decoder(folder, tokenizer)
    batching = Batching(decoder, limit, torch.get_num_threads(), max_tokens, most)
    found = {}
    for name, tag in pairs.items():
        pair = LanguagePair.parse(name)
        told = language_codes(tokenizer) or configured_prefix(config, pair.source, pair.target)
        direction = asked(tokenizer, config, *((pair.source, pair.target) if told else ()))
        targets = replace(Targets.of(tokenizer, NONE), default=tag)
        found[pair] = Served(LineTranslator(tokenizer, decoder, limit, targets, direction, num_beams), batching)
    return found
