import gzip
import io
import os
import resource
import signal
import subprocess
import sys
import threading

import pytest

from hf_paretokd.errors import DataError, RecipeError
from hf_paretokd.inference.lines import translate_file
from hf_paretokd.inference.streams import LineWriter, open_sink, open_source

LINES = [b"one\n", b"two \xc3\xa9\n", b"three"]
CONTENT = b"".join(LINES)


def test_sources_of_all_kinds(tmp_path, monkeypatch):
    (tmp_path / "plain").write_bytes(CONTENT)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(CONTENT))
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(CONTENT), daemon=True).start()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONTENT)))
    for source, count in ((tmp_path / "plain", 3), (tmp_path / "packed.gz", None), (tmp_path / "pipe", None), ("-", None)):
        lines, total = open_source(str(source))
        assert list(lines) == LINES
        assert total == count


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none", None, "none: no such file"),
        (".", None, "is a folder"),
        ("cut.gz", gzip.compress(b"line\n" * 9999)[:40], "cut.gz: cannot be read after line"),
        ("text.gz", CONTENT, "text.gz: cannot be read after line 0"),
        ("marked", "eins\nzwei\n".encode("utf-16"), "marked: is UTF-16; convert it first"),
        ("unmarked", "eine Zeile Text\n".encode("utf-16-le"), "unmarked: is UTF-16"),
        ("wide", "eins\nzwei\n".encode("utf-32"), "wide: is UTF-32; convert it first"),
        ("wide-unmarked", "eine Zeile Text\n".encode("utf-32-be"), "wide-unmarked: is UTF-32"),
        ("cyrillic", "Два человека идут\n".encode("utf-16-le"), "cyrillic: is no UTF-8 text"),
        ("misnamed", gzip.compress(CONTENT), "misnamed: is packed .gzip.; unpack it first"),
        ("archive", b"PK\x03\x04\x14\0", "archive: is packed; unpack it first"),
        ("program", b"\x7fELF\x02\x01\x01\0\n", "program: is no UTF-8 text"),
        ("late", b"one\ntwo\nthr\0ee\n", "late: is no UTF-8 text"),
        ("other", "eine Zeile Text\n".encode("utf-16-be"), "other: is UTF-16"),
        ("returns", b"eins\rzwei\r", "returns: all one line, with CR alone"),
        ("ended", b"eins\rzwei\r\n", "ended: all one line, with CR alone"),
    ],
    # a packed file holds the second it was made in, and all workers must know a test by one name
    ids=lambda value: value if isinstance(value, str) else "content",
)
def test_sources_that_are_no_text(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(open_source(str(tmp_path / name))[0])


def test_closed_streams_are_named(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(DataError, match="standard input: is closed; name a file"):
        open_source(None)
    with pytest.raises(DataError, match="standard output: is closed; give --output FILE"), open_sink("-"):
        pass


def test_sinks_of_all_kinds(tmp_path, capfd):
    for name in ("plain", "packed.gz", "-"):
        with open_sink(name if name == "-" else str(tmp_path / name)) as sink:
            for line in LINES:
                sink.write(line)
            sink.flush()
    assert (tmp_path / "plain").read_bytes() == CONTENT
    assert gzip.decompress((tmp_path / "packed.gz").read_bytes()) == CONTENT
    assert capfd.readouterr().out.encode() == CONTENT


@pytest.mark.parametrize("name", ["/dev/full", "/nowhere/x", "/"])
def test_sinks_that_take_nothing(name):
    with pytest.raises(DataError, match=f"{name}: cannot be written"), open_sink(name) as sink:
        sink.write(b"line\n")


@pytest.mark.parametrize("packed", [False, True])
def test_a_full_disk_leaves_whole_lines(tmp_path, packed):
    """A limit on the size of files stands for the disk; 7 bytes would cut the second line."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with io.FileIO(tmp_path / "out", "wb") as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (7, old[1]))
            writer = LineWriter(file, "out", packed)
            for line in LINES:
                writer.write(line)
            with pytest.raises(DataError, match=r"out: cannot be written \(File too large\)"):
                writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert packed or (tmp_path / "out").read_bytes() == b"one\n"


def test_an_interruption_leaves_whole_lines(tmp_path):
    def interrupted():
        with open_sink(str(tmp_path / "out")) as sink:
            sink.write(LINES[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "out").read_bytes() == LINES[0]


def test_a_command_whose_streams_are_closed(tmp_path):
    """A real process: Python sees no stream at all, and the next file that is opened gets its number."""
    program = "import sys; from hf_paretokd.cli.main import main; sys.exit(main())"
    command = f"{sys.executable} -c '{program}' translate nowhere <&- >&-"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "standard input: is closed; name a file" in found.stderr
    assert "Traceback" not in found.stderr


def test_standard_input_is_not_emptied_by_its_own_output(tmp_path):
    source = tmp_path / "lines"
    source.write_bytes(CONTENT)
    before = os.dup(0)
    try:
        with source.open("rb") as file:
            os.dup2(file.fileno(), 0)
        for words in ((None,), ("-",)):
            with pytest.raises(RecipeError, match=r"--output: .*lines is /dev/stdin, which is read here"):
                translate_file("no model", *words, output=str(source))
    finally:
        os.dup2(before, 0)
        os.close(before)
    assert source.read_bytes() == CONTENT
