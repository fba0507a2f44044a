import base64
import json
import re
from html.parser import HTMLParser

from commands import command

from hf_paretokd.runs.report import write_report
from hf_paretokd.runs.run import Run


class Page(HTMLParser):
    """What a browser would load, and all the text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.sources, self.text, self.open = [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_page_with_everything(folder):
    page = Page((folder / "report.html").read_text("utf-8"))
    assert not page.open, "every element is closed"
    assert len(page.sources) == 5
    for source in page.sources:
        assert source.startswith("data:image/png;base64,"), "nothing is loaded from elsewhere"
        assert base64.b64decode(source.split(",")[1]).startswith(b"\x89PNG")
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "latency.png",
        "size.png",
        "training.png",
        "validation.png",
        "frontier.png",
    }
    text = " ".join(" ".join(page.text).split())
    record = Run(folder)
    for heading in ("Models", "Language pairs", "Compared", "Training", "Contamination", "Samples", "Configuration"):
        assert heading in text
    assert record.signature in text
    assert record.signature.startswith("method:all_in_one|depth:3-2|width:32|K:2|")
    assert "nrefs:1|bs:1000|seed:12345" in text
    for member in record.scored[1:]:
        row = record.table[member, "fr-en", "bleu"]
        assert f"{member.title} " in text
        assert f"{row.value:.1f} ± {(row.high - row.low) / 2:.1f}" in text
    assert f"{record.costs[1][record.scored[1]].milliseconds:.1f}" in text
    assert record.translations("bs-en")["reference"][5] in text, "the sixth of forty is the first of four shown"


def test_the_report_is_measured_and_drawn_again_only_where_needed(folder):
    stamp = (folder / "latency.json").stat().st_mtime_ns
    write_report(Run(folder))
    assert (folder / "latency.json").stat().st_mtime_ns == stamp
    content = json.loads((folder / "latency.json").read_text())
    content["protocol"]["machine"] = "another machine"
    (folder / "latency.json").write_text(json.dumps(content))
    assert command("report", folder) == 0
    assert json.loads((folder / "latency.json").read_text())["protocol"]["machine"] != "another machine"


def test_text_from_outside_is_text_in_the_page(folder, tmp_path):
    path = folder / "translations" / "test.fr-en" / "student-2-2.txt"
    before = path.read_text()
    path.write_text("<script>alert(1)</script>\n" * len(before.splitlines()))
    try:
        content = write_report(Run(folder)).read_text()
    finally:
        path.write_text(before)
        write_report(Run(folder))
    assert "<script>" not in content
    assert "&lt;script&gt;alert(1)" in content


def test_comet_scores_beside_the_translations_reach_report_and_card(folder):
    scores = {"student-2-2.txt": [{"COMET": 0.7125}], "student-3-2.txt": [{"COMET": 0.8}]}
    path = folder / "translations" / "test.fr-en" / "wmt22-comet-da.json"
    path.write_text(json.dumps(scores))
    try:
        assert "0.7125" in write_report(Run(folder)).read_text()
        from hf_paretokd.runs.push import planned_uploads

        (card,) = (upload.card for upload in planned_uploads(folder, "anna/x", depths=["2-2"]))
        assert re.search(r"\| fr-en \| \d+\.\d \(.*\) \| \d+\.\d \(.*\) \| 0\.7125 \|", card)
        assert "* COMET: `wmt22-comet-da`" in card
    finally:
        path.unlink()
        write_report(Run(folder))


def test_tables_with_many_columns_are_filtered_by_the_reader(folder, monkeypatch):
    """Means come first, samples and pairs are some of many, and contamination names what there is."""
    from hf_paretokd.runs import report, tables

    page = (folder / "report.html").read_text("utf-8")
    assert "<script>" not in page
    for module in (report, tables):
        monkeypatch.setattr(module, "MOST_COLUMNS", 1)
    monkeypatch.setattr(report, "SAMPLES", 1)
    try:
        page = write_report(Run(folder)).read_text("utf-8")
    finally:
        monkeypatch.undo()
        write_report(Run(folder))
    assert page.count('class="filter"') == 2
    assert page.count("<script>") == 1
    assert "fr-en and 1 more" in page
    assert page.count('<div class="sample">') == 1
    assert page.index("<th>mean</th>") < page.index("<th>fr-en</th>")


def test_weights_of_many_pairs_are_strips(tmp_path):
    from hf_paretokd.evaluation.plots import COLOURS, Decision, plot_weights

    sizes = []
    for count in (COLOURS, COLOURS + 1, 50):
        names = [f"{chr(97 + number // 26)}{chr(97 + number % 26)}-en" for number in range(count)]
        history = [Decision(update, [dict.fromkeys(names, update / 9)] * 2) for update in (0, 4, 9)]
        plot_weights(history, tmp_path / "a.png", 12, ["τ = 1", "τ = 5"])
        sizes.append(int.from_bytes((tmp_path / "a.png").read_bytes()[20:24], "big"))
    assert sizes[1] < sizes[2] > 2000, "a strip has room for its name"
