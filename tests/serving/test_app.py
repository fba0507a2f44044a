"""Requests and their answers, in the shape of LibreTranslate's API."""

import asyncio
import json
import random
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import anyio
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from hf_paretokd import LanguagePair
from hf_paretokd.data.languages import Direction
from hf_paretokd.errors import ModelError, ServingError
from hf_paretokd.inference.lines import line_translator
from hf_paretokd.inference.targets import Targets
from hf_paretokd.models.files import load_checkpoint
from hf_paretokd.runs.export import export_model
from hf_paretokd.serving import app as module
from hf_paretokd.serving.app import Limits, build_app
from hf_paretokd.serving.batching import Overloaded
from hf_paretokd.serving.models import Models

FR_EN, BS_EN, EL_EN = (LanguagePair(source, "en") for source in ("fr", "bs", "el"))


@pytest.fixture(scope="module")
def exports(students, tmp_path_factory):
    """Two exports: one of two pairs whose text needs no tag, one with a tag."""
    folder = tmp_path_factory.mktemp("exports")
    for depth, told in (("3-2", {FR_EN: Direction(), BS_EN: Direction()}), ("2-2", {EL_EN: Direction(">>en<< ")})):
        model, tokenizer = load_checkpoint(students / depth)
        export_model(model.eval(), tokenizer, [], folder / depth, told=told)
    return folder


@pytest.fixture(scope="module")
def models(exports):
    return Models.load([exports / "3-2", exports / "2-2"], 1, 4096, 1000)


@pytest.fixture(scope="module")
def client(models):
    with TestClient(build_app(models, Limits(lines=20, characters=2000)), raise_server_exceptions=False) as found:
        yield found


def asked(client, **fields):
    return client.post("/translate", json={"source": "fr", "target": "en", **fields})


def test_translations_are_those_of_the_command(client, exports, sentences):
    expected = [
        line.decode() for line in line_translator(str(exports / "3-2"), num_beams=1).translate(map(str.encode, sentences))
    ]
    found = [asked(client, q=sentence).json() for sentence in sentences[:30]]
    assert found == [{"translatedText": line} for line in expected[:30]]
    assert asked(client, q=sentences[:20]).json() == {"translatedText": expected[:20]}
    text = f"{sentences[0]}\n\n{sentences[1]}\n"
    assert asked(client, q=text).json() == {"translatedText": f"{expected[0]}\n\n{expected[1]}\n"}
    assert asked(client, q=["", " \n"]).json() == {"translatedText": ["", "\n"]}
    form = {"q": sentences[2], "source": "auto", "target": "en"}
    answer = client.post("/translate", data={**form, "source": "bs"})
    assert answer.json() == {"translatedText": expected[2]}
    tagged = line_translator(str(exports / "2-2"), num_beams=1, to="en")
    (line,) = tagged.translate([sentences[3].encode()])
    assert asked(client, q=sentences[3], source="el").json() == {"translatedText": line.decode()}


def test_languages_health_and_figures(client):
    assert (
        client.get("/languages").json()
        == client.post("/languages").json()
        == [
            {"code": "fr", "name": "fr", "targets": ["en"]},
            {"code": "bs", "name": "bs", "targets": ["en"]},
            {"code": "el", "name": "el", "targets": ["en"]},
        ]
    )
    assert client.get("/health").json() == {"status": "ok"}
    assert client.head("/health").status_code == client.head("/languages").status_code == 200, "some look whether it lives so"
    asked(client, q="dans 3 heures")
    client.get("/nothing")
    text = client.get("/metrics").text
    for line in (
        'paretokd_requests_total{path="/translate",status="200"}',
        'paretokd_requests_total{path="other",status="404"}',
        "paretokd_request_seconds_count",
        "paretokd_waiting 0.0",
        "paretokd_batches",
        "paretokd_sentences",
        "paretokd_lines_total",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"q": "x", "source": "de"}, 400, r"de-en: is no pair that is translated here \(fr-en, bs-en, el-en\)"),
        ({"q": "x", "source": "auto"}, 400, "source: several languages go into en; name one of fr-en, bs-en, el-en"),
        ({"q": "x", "target": "fr"}, 400, "fr-fr: is no pair"),
        ({"q": 5}, 400, "q: input should be a valid string; give q, source and target"),
        ({"q": [5]}, 400, "q: input should be a valid"),
        ({}, 400, "q: field required; give q"),
        ({"q": "x", "target": None}, 400, "target: input should be a valid string"),
        ({"q": "x", "format": "html"}, 400, "format: 'html' is not translated, only text"),
        ({"q": "x" * 2001}, 400, "q: 2,001 characters, 2,000 may be in a request"),
        ({"q": "\n" * 20}, 400, "q: 21 lines, 20 may be in a request"),
        ({"q": "a\nb </s> c"}, 400, "q: line 2: holds </s>, which means something to the tokenizer"),
        ({"q": ">>xx<< a"}, 400, "q: line 1: the tag >>xx<< is unknown"),
        ({"q": "x" * 200_000}, 413, "the request has more than 34,000 bytes"),
    ],
)
def test_what_is_refused(client, fields, status, message):
    answer = asked(client, **fields)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert message.replace("\\", "") in answer.json()["error"]


def test_more_than_may_ever_wait_is_not_told_to_come_again(client, models, monkeypatch):
    monkeypatch.setattr(models.served[FR_EN].batching, "most", 3)
    answer = asked(client, q="a\nb\nc\nd")
    assert (answer.status_code, answer.json()["error"]) == (400, "q: 4 sentences, 3 may wait; send less at a time")
    assert "Retry-After" not in answer.headers


def test_the_target_is_that_of_the_request(client, models):
    """Text that asks for another by its tag is refused, and not translated into something that nobody awaits."""
    assert asked(client, q=">>en<< dans 3 heures", source="el").status_code == 200
    translator = models.served[EL_EN].translator
    both = replace(translator, targets=Targets((">>en<<", ">>fr<<"), ">>en<<", True))
    assert module.in_pieces(both, ["", "b", ">>en<<  b"]) == [[], [">>en<< b"], [">>en<< b"]]
    with pytest.raises(module.Refused, match="q: line 2: has a tag of another target than >>en<<; name it as target"):
        module.in_pieces(both, ["a", ">>fr<< b"])


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=utf-8"])
def test_forms_are_read(client, kind):
    body = "q=dans+3+heures&source=fr&target=en"
    assert client.post("/translate", content=body, headers={"content-type": kind}).status_code == 200
    answer = client.post("/translate", content="--x", headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.json()["error"].startswith("the request is neither JSON nor an urlencoded form")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b'"q"', b"null", b"[" * 100_000, b"q=1"])
def test_bodies_that_say_nothing(client, body):
    answer = client.post("/translate", content=body[:30_000], headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "give q, source and target" in answer.json()["error"]


def test_a_body_is_an_object(client):
    answer = client.post("/translate", content=b"[]")
    assert answer.json() == {"error": "the request is no JSON object; give q, source and target"}


def test_ten_megabytes_are_not_read_to_their_end(client):
    sent = []

    def chunks():
        for _ in range(160):
            sent.append(1)
            yield b"x" * 65_536

    assert client.post("/translate", content=chunks()).status_code == 413


def test_halves_of_characters_are_replaced(client):
    answer = client.post("/translate", content=b'{"q": "a \\ud800 b", "source": "fr", "target": "en"}')
    assert answer.status_code == 200
    answer = client.post("/translate", content=b'{"q": "a", "source": "\\ud800", "target": "en"}')
    assert (answer.status_code, answer.json()["error"][:5]) == (400, "?-en:")


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/nothing", "GET", 404), ("/translate", "GET", 405), ("/", "GET", 404)]
)
def test_other_places(client, path, method, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)
    assert answer.json() == {"error": f"{method} {path}: there is nothing of that kind"}


def test_fuzzed_bodies_crash_nothing(client):
    draw = random.Random(1)
    words = [
        "q",
        "source",
        "target",
        "fr",
        "en",
        "auto",
        "dans 3 heures",
        "\x00",
        "😀",
        ">>en<<",
        "</s>",
        "\n",
        "&=",
        None,
        3,
        1e400,
        True,
    ]
    seen = set()
    for number in range(400):
        kind = draw.random()
        if kind < 0.4:
            body = bytes(draw.randrange(256) for _ in range(draw.randint(0, 60)))
        elif kind < 0.9:
            value = {
                str(draw.choice(words)): draw.choice([draw.choice(words), [draw.choice(words)] * draw.randint(0, 3)])
                for _ in range(4)
            }
            body = json.dumps(value).encode()
        else:
            body = "&".join(f"{draw.choice(words)}={draw.choice(words)}" for _ in range(4)).encode()
        kinds = [
            "application/json",
            "application/x-www-form-urlencoded",
            "text/plain",
            "application/x-www-form-urlencoded; charset=x",
        ]
        answer = client.post("/translate", content=body, headers={"content-type": kinds[number % 4]})
        assert answer.status_code in (200, 400), (body, answer.text)
        seen.add(answer.status_code)
    assert 400 in seen


def test_a_key_has_to_be_named(models):
    with TestClient(build_app(models, Limits(api_key="secret ü"))) as client:
        for given, status in (({}, 403), ({"api_key": "wrong"}, 403), ({"api_key": ""}, 403), ({"api_key": "secret ü"}, 200)):
            assert asked(client, q="x", **given).status_code == status
        assert asked(client, q="x").json() == {"error": "api_key: is missing or wrong"}
        assert client.get("/languages").status_code == 200


class Slow:
    """A pair whose decoding takes its time, or fails."""

    num_beams, direction, targets = 1, None, Targets((), "", False)

    def __init__(self, action):
        self.translator = self.batching = self
        self.action = action

    def pieces(self, line):
        return [line]

    def encoded(self, texts):
        return texts

    joined = encoded

    async def decode(self, ids, beams, direction):
        await self.action()
        return ids


def served(action, **limits):
    models = SimpleNamespace(served={FR_EN: None}, batching=(), find=lambda *_: Slow(action))
    return TestClient(build_app(models, Limits(**limits)), raise_server_exceptions=False)


def stalled(models, seconds, stopping):
    """Reads a request of which no more than a part ever comes; what it is refused with."""
    app = build_app(models, Limits())
    app.state.stopping = stopping
    parts = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive():
        if part := next(parts, None):
            return part
        await asyncio.sleep(100)

    request = Request({"type": "http", "method": "POST", "path": "/translate", "headers": [], "app": app}, receive)
    with pytest.raises(module.Refused) as refused:
        asyncio.run(module.read(request, Limits(seconds=seconds)))
    return refused.value.status, refused.value.message


def test_requests_that_never_come_are_not_waited_for(models):
    assert stalled(models, 0.2, lambda: False) == (408, "the request did not come within 0.2 s")
    assert stalled(models, 60, lambda: True) == (503, "the server stops")


class Slowly:
    """Takes five seconds, and remembers whether it was cancelled."""

    cancelled = False

    async def __call__(self):
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def test_what_takes_too_long_is_given_up():
    slowly = Slowly()
    with served(slowly, seconds=0.3) as client:
        start = time.monotonic()
        answer = asked(client, q="x")
        assert time.monotonic() - start < 3
        time.sleep(0.2)
        assert slowly.cancelled, "while the server goes on"
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"error": "not done within 0.3 s; send less at a time"}


def test_too_many_that_wait():
    async def full():
        raise Overloaded("9 sentences wait already, 9 may; try again later")

    with served(full) as client:
        answer = asked(client, q="x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"error": "9 sentences wait already, 9 may; try again later"}


def test_what_fails_is_told_without_its_insides():
    async def fail():
        raise ValueError("inside /a/b")

    with served(fail) as client:
        answer = asked(client, q="x")
        assert (answer.status_code, answer.json()) == (500, {"error": "the translation failed; the server's log says why"})
        assert 'status="500"' in client.get("/metrics").text


@pytest.mark.parametrize("whole", [True, False])
def test_a_client_that_hangs_up_is_not_waited_for(whole):
    """Whether it had said all that it wanted, or not."""
    slowly, sent = Slowly(), []
    application = served(slowly).app
    body = json.dumps({"q": "x", "source": "fr", "target": "en"}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": not whole}]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/translate", "headers": [], "query_string": b"", "root_path": ""}
    scope |= {"http_version": "1.1", "scheme": "http", "raw_path": b"/translate"}
    scope |= {"server": ("localhost", 80), "client": ("localhost", 1)}
    start = time.monotonic()
    anyio.run(application, scope, receive, send)
    assert time.monotonic() - start < 3
    assert slowly.cancelled is whole
    assert sent[0]["status"] == 499


def test_exports_that_cannot_be_served(exports, students, tmp_path):
    def load(*folders):
        return Models.load(folders, 1, 4096, 1000)

    with pytest.raises(
        ServingError, match="is no export for CTranslate2; make one with paretokd export MODEL --to ctranslate2"
    ):
        load(students / "2-2")
    with pytest.raises(ServingError, match="translates bs-en, as another export does; leave one out"):
        load(exports / "3-2", exports / "3-2")
    model, tokenizer = load_checkpoint(students / "2-2")
    export_model(model.eval(), tokenizer, [], tmp_path / "older")
    with pytest.raises(ServingError, match="does not say which languages it translates; export the model again"):
        load(tmp_path / "older")
    for name, content in (("model.bin", b"hi"), ("shared_vocabulary.json", None)):
        shutil.copytree(exports / "3-2", tmp_path / name)
        if content:
            (tmp_path / name / name).write_bytes(content)
        else:
            (tmp_path / name / name).unlink()
        with pytest.raises(ModelError, match=r"CTranslate2 cannot load it \(.*\); export the model again"):
            load(tmp_path / name)


def test_pairs_of_one_export_share_its_batches(models):
    french, bosnian, greek = (models.served[pair] for pair in (FR_EN, BS_EN, EL_EN))
    assert french.batching is bosnian.batching is not greek.batching
    assert models.batching == [french.batching, greek.batching]
    assert french.translator.targets.default == ""
    assert greek.translator.targets.default == ">>en<<"


def test_many_sentences_are_prepared_aside(client, sentences, monkeypatch):
    """So that others need not wait for them; with the same result."""
    expected = asked(client, q=sentences[:20]).json()
    monkeypatch.setattr(module, "MANY", 3)
    assert asked(client, q=sentences[:20]).json() == expected
