"""The Dockerfile: what its steps make serves a model."""

import subprocess
import sysconfig

from image import ROOT, follow, only, serves, steps
from pages import blocks
from runtimes import FIRST, HERE, Places

from hf_paretokd import LanguagePair
from hf_paretokd.cli.parser import Parser
from hf_paretokd.cli.serving import serve_options


def test_its_steps_make_an_environment_that_serves(students, sentences, tmp_path):
    """Packages are taken from here, so that it is seconds and not minutes; `make conformance` installs all of them."""
    known = steps()
    variables = follow(known, tmp_path, sysconfig.get_path("purelib"))
    words = ["python", "-c", "import hf_paretokd; print(hf_paretokd.__file__)"]
    where = subprocess.run(words, capture_output=True, text=True, env=variables, cwd=tmp_path, check=True).stdout
    assert where.startswith(variables["VIRTUAL_ENV"]), "not the package that is tested otherwise"
    places = Places.make(students / "2-2", tmp_path, LanguagePair("fr", "en"), "ctranslate2")
    assert serves(known, variables, places, sentences[:3]) == HERE[FIRST](places, sentences[:3])


def test_it_says_how_it_is_run_and_listens_there():
    (block,) = blocks("docker")
    comments = [line.removeprefix("#   ") for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("#   ")]
    assert comments == block.code.splitlines()
    parser = Parser("serve", "", "")
    serve_options(parser)
    port = only(steps(), "EXPOSE")
    assert f"-p {port}:{port}" in block.code
    assert parser.parsed(["export"])[0].port == int(port)
