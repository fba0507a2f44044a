"""Commands that use models: `extract`, `export`, `distill`, `translate`, `push`."""

from argparse import Namespace
from pathlib import Path

from hf_paretokd.cli.clusters import ray_cluster, ray_options
from hf_paretokd.cli.parser import Parser, UsageError, whole
from hf_paretokd.utils.choices import BAD_LINES, ENGINES, LAYOUTS, LONG, QUANTIZATIONS, TARGETS

TEST_TEXT = """of a model outside a run, say where test text is:
  --data.pairs de-en …    language pairs
  --data.data_dir DIR     folder with PAIR/test.LANG[.gz]
"""
PAIRS = """of a model outside a run, say which languages (and where training text is):
  --data.pairs de-en …    language pairs
  --data.data_dir DIR     folder with PAIR/train.LANG[.gz]
"""
MODEL_HELP = "a model: a student, another folder, or a name on the Hub"


def extract_options(parser: Parser) -> None:
    """Of `paretokd extract`."""
    parser.option("what", "source", help="a run, or a model: a folder or a name on the Hub")
    parser.option("what", "depths", nargs="+", metavar="depth", help="encoder-decoder layers, such as 6-2")
    parser.option("where", "--output", type=Path, required=True, metavar="DIR", help="for a folder a depth")
    parser.option("where", "--overwrite", action="store_true", help="replace students that are there")


def extract(options: Namespace, _: list[str]) -> None:
    """`paretokd extract`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.extract import extract_depths
    from hf_paretokd.runs.resolve import MODEL, RUN, expect

    expect(options.source, RUN, MODEL)
    for path in extract_depths(**vars(options)):
        show.line(str(path))


def export_options(parser: Parser) -> None:
    """Of `paretokd export`."""
    parser.option("what", "model", help=MODEL_HELP)
    parser.option("what", "--to", choices=TARGETS, required=True, help="what it is for")
    parser.option("what", "--quantization", choices=QUANTIZATIONS, default="float32", help="of the weights")
    parser.option("where", "--output", type=Path, required=True, metavar="DIR", help="for the converted model")
    parser.option("where", "--overwrite", action="store_true", help="replace an export that is there")
    parser.option(
        "what", "--runtime", type=Path, metavar="DIR", help="for web: node_modules/@huggingface/transformers", rare=True
    )
    parser.fields, parser.sections = TEST_TEXT, ("data",)


def export(options: Namespace, fields: list[str]) -> None:
    """`paretokd export`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.export import export_checkpoint
    from hf_paretokd.runs.resolve import MODEL, expect

    expect(options.model, MODEL)
    proof = export_checkpoint(**vars(options), overrides=fields)
    show.proof(proof, options.output)


def translate_options(parser: Parser) -> None:
    """Of `paretokd translate`."""
    parser.option("what", "model", help="a student, another model, or an export")
    parser.option("what", "source", nargs="?", metavar="FILE", help="text, also .gz or a pipe (default, or -: standard input)")
    parser.option("what", "--output", metavar="FILE", help="packed if it is called .gz (default, or -: standard output)")
    parser.option("what", "--overwrite", action="store_true", help="replace the content of the output")
    parser.option("languages", "--to", metavar="de", help="target of lines without a tag such as >>de<<; none leaves them")
    parser.option("languages", "--from", dest="source_language", metavar="en", help="source, for M2M100, NLLB, mBART, T5")
    parser.option("how", "--num_beams", type=whole, default=4, metavar="N", help="beam width, 1 for greedy search")
    parser.option("how", "--engine", choices=ENGINES, help="default: what the folder is made for, else transformers")
    parser.option("how", "--long", choices=LONG, default="split", help="what becomes of lines longer than the model takes")
    parser.option("how", "--bad_lines", choices=BAD_LINES, default="stop", help="of unknown tags, control tokens", rare=True)
    parser.option("how", "--quantization", choices=QUANTIZATIONS, help="if CTranslate2 has to convert first", rare=True)
    parser.option("how", "--buffer", type=whole, default=256, metavar="N", help="lines translated together", rare=True)
    parser.option("how", "--max_tokens", type=whole, default=4096, metavar="N", help="source tokens of a batch", rare=True)


def translate(options: Namespace, _: list[str]) -> None:
    """`paretokd translate`."""
    from hf_paretokd.inference.lines import translate_file
    from hf_paretokd.runs.resolve import EXPORT, MODEL, expect

    expect(options.model, MODEL, EXPORT)
    translate_file(**vars(options))


def distill_options(parser: Parser) -> None:
    """Of `paretokd distill`."""
    parser.option("what", "model", help="a run with one teacher, or a model: a folder or a name on the Hub")
    parser.option("what", "--output", type=Path, required=True, metavar="DIR", help="for the corpus, for data.distilled_dir")
    parser.option(
        "what", "--text", nargs="+", default=[], metavar="FILE", help="other than training text; {source} is filled in"
    )
    parser.option("what", "--overwrite", action="store_true", help="begin anew, whatever corpus is in the output")
    parser.option("how", "--num_beams", type=whole, default=5, metavar="N", help="beam width, 1 for greedy search")
    parser.option("how", "--engine", choices=ENGINES, default="transformers", help="that translates")
    parser.option("how", "--quantization", choices=QUANTIZATIONS, default="float32", help="of CTranslate2", rare=True)
    parser.option("how", "--max_tokens", type=whole, default=4096, metavar="N", help="source tokens of a batch", rare=True)
    ray_options(parser)
    parser.fields, parser.sections = PAIRS, ("data",)


def distill(options: Namespace, fields: list[str]) -> None:
    """`paretokd distill`."""
    from hf_paretokd.cli import show
    from hf_paretokd.runs.distill import distill as distill_text
    from hf_paretokd.runs.resolve import MODEL, RUN, expect

    expect(options.model, RUN, MODEL)
    cluster = ray_cluster(options)
    words = {name: value for name, value in vars(options).items() if not name.startswith("ray")}
    show.distilled(distill_text(**words, overrides=fields, cluster=cluster), options.output)


def push_options(parser: Parser) -> None:
    """Of `paretokd push`."""
    parser.option("what", "run", help="a finished run")
    parser.option("what", "--depths", nargs="+", metavar="E-D", help="students, such as 6-2 2-2 (default: all models)")
    parser.option("where", "--to", required=True, metavar="user/name", help="models get user/name-6-2 and so on")
    parser.option("where", "--layout", choices=LAYOUTS, default="repositories", help="one a model, or one with folders")
    parser.option("where", "--public", action="store_true", help="make new repositories public (else they are private)")
    parser.option("where", "--dry-run", action="store_true", help="print what would be uploaded, and upload nothing")
    parser.option("where", "--cards", action="store_true", help="with --dry-run: the cards in full")


def push(options: Namespace, _: list[str]) -> None:
    """`paretokd push`."""
    from hf_paretokd.cli import show
    from hf_paretokd.hub.upload import push as upload
    from hf_paretokd.runs.push import planned_uploads
    from hf_paretokd.runs.resolve import RUN, expect

    if options.cards and not options.dry_run:
        raise UsageError("--cards: prints what --dry-run would upload; give both, or neither")
    expect(options.run, RUN)
    planned = planned_uploads(options.run, options.to, options.layout, options.depths)
    if options.dry_run:
        show.uploads(planned, options.public, options.cards)
    else:
        for address in upload(planned, not options.public):
            show.line(address)
