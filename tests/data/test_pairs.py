from hf_paretokd import LanguagePair
from hf_paretokd.data.pairs import source_tags


def test_tags_only_where_needed_or_always():
    many_to_one = [LanguagePair("de", "en"), LanguagePair("fr", "en")]
    one_to_many = [LanguagePair("en", "de"), LanguagePair("en", "fr")]
    assert set(source_tags(many_to_one, "needed").values()) == {""}
    assert set(source_tags(many_to_one, "always").values()) == {">>en<< "}
    assert list(source_tags(one_to_many, "needed").values()) == [">>de<< ", ">>fr<< "]
