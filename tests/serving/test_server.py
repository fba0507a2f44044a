"""A server in a process of its own, and the real client of LibreTranslate."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from commands import PATIENCE, command
from libretranslatepy import LibreTranslateAPI

from hf_paretokd import LanguagePair
from hf_paretokd.data.languages import Direction
from hf_paretokd.errors import ModelError, OptionError
from hf_paretokd.inference.lines import line_translator
from hf_paretokd.models.files import load_checkpoint
from hf_paretokd.runs.export import export_model
from hf_paretokd.serving import server as module
from hf_paretokd.serving.server import bound, check_installed


@pytest.fixture(scope="module")
def export(students, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "fr-en"
    model, tokenizer = load_checkpoint(students / "3-2")
    export_model(model.eval(), tokenizer, [], folder, told={LanguagePair("fr", "en"): Direction()})
    return folder


@pytest.fixture
def server(export, tmp_path):
    """A running server with its address, of a copy that may be spoilt."""
    copy = shutil.copytree(export, tmp_path / "export")
    words = ["serve", str(copy), "--port", "0", "--api_key", "key"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_paretokd.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    line = process.stdout.readline()
    address = re.search(r"fr-en at (http://127\.0\.0\.1:\d+)/translate", line)
    assert address, line + process.stdout.read()
    yield process, address[1], copy
    process.kill()
    process.wait()


def post(address, body, timeout=60):
    request = urllib.request.Request(f"{address}/translate", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)["translatedText"]


def test_it_answers_the_real_client_and_many_at_once_and_ends_in_order(server, export, sentences):
    process, address, copy = server
    expected = [line.decode() for line in line_translator(str(export), num_beams=1).translate(map(str.encode, sentences))]
    client = LibreTranslateAPI(f"{address}/", api_key="key")
    assert client.translate(sentences[0], "fr", "en") == expected[0]
    assert client.languages() == [{"code": "fr", "name": "fr", "targets": ["en"]}]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        LibreTranslateAPI(f"{address}/", api_key="other").translate("x", "fr", "en")

    shutil.rmtree(copy)  # what was loaded stays
    found = {}

    def ask(number):
        mine = sentences[number::8]
        found[number] = [post(address, {"q": each, "source": "fr", "target": "en", "api_key": "key"}) for each in mine]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == {number: expected[number::8] for number in range(8)}

    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as left:  # a client that hangs up
        left.sendall(b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    with pytest.raises(urllib.error.HTTPError, match="413"):  # heard by clients that send everything before they listen
        post(address, {"q": "x" * 10_000_000, "source": "fr", "target": "en", "api_key": "key"})
    assert command("serve", str(export), "--port", port) == 2, "somebody listens there"

    answers = []
    text = [" ".join(sentences[:8])] * 60
    asking = threading.Thread(
        target=lambda: answers.append(post(address, {"q": text, "source": "fr", "target": "en", "api_key": "key"}))
    )
    asking.start()
    time.sleep(0.2)
    stalled = socket.create_connection((host, int(port)))  # it will never send the rest
    stalled.sendall(b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    asking.join(PATIENCE)
    assert len(answers[0]) == 60, "what it had was finished"
    assert stalled.recv(12) == b"HTTP/1.1 503"
    stalled.close()
    assert process.wait(PATIENCE) == 143
    assert process.stdout.read() == "", "nothing to be said about it"


def test_ports_and_hosts_that_cannot_be_had(monkeypatch):
    taken = pytest.raises(OptionError, match=r"--port \d+: cannot be had on 127\.0\.0\.1 \(Address already")
    with bound("127.0.0.1", 0) as mine, taken:  # it listens, or two that start at once would both have it
        bound("127.0.0.1", mine.getsockname()[1])
    with pytest.raises(OptionError, match="--port 70000: cannot be had"):
        bound("127.0.0.1", 70_000)
    with pytest.raises(OptionError, match=r"cannot be had on no\.such\.host"):
        bound("no.such.host", 0)
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "fastapi" else True)
    with pytest.raises(ModelError, match=r"fastapi is not installed \(pip install 'hf_paretokd\[serve\]'\)"):
        check_installed()
