import pytest

from hf_paretokd import LanguagePair
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.evaluation.translations import KeptLines, read_translations, write_translations
from hf_paretokd.utils.text import one_line

DE_EN = LanguagePair("de", "en")


def test_translations_stay_one_line_each(tmp_path):
    sources = ["one", "two", ""]
    hypotheses = ["a\nb", "c\u2028d\x0be", ""]
    write_translations(tmp_path, {DE_EN: ParallelText(DE_EN, "test", sources, sources)}, {"teacher": {DE_EN: hypotheses}})
    assert read_translations(tmp_path, "test", "de-en") == {
        "teacher": ["a b", "c d e", ""],
        "source": sources,
        "reference": sources,
    }
    assert one_line("a\r\nb\x85c") == "a b c"


def test_translations_are_kept_on_disk_a_pair_at_a_time(tmp_path):
    kept = KeptLines(tmp_path, "test", "student-2-2")
    kept.keep(DE_EN, ["a\nb", "c"])
    assert dict(kept) == {DE_EN: ["a b", "c"]}
    assert read_translations(tmp_path, "test", "de-en", "student-2-2") == {"student-2-2": ["a b", "c"]}
    assert read_translations(tmp_path, "test", "de-en", "teacher") == {}
    with pytest.raises(KeyError):
        kept[LanguagePair("fr", "en")]
