from hf_paretokd import LanguagePair
from hf_paretokd.data.corpus import ParallelText
from hf_paretokd.data.hashing import row_keys
from hf_paretokd.evaluation.contamination import Contamination, contamination, normalised
from hf_paretokd.utils.files import read_rows, write_rows

DE_EN, FR_EN = LanguagePair("de", "en"), LanguagePair("fr", "en")


def text(pair: LanguagePair, split: str, *rows: tuple[str, str]) -> ParallelText:
    return ParallelText(pair, split, [row[0] for row in rows], [row[1] for row in rows])


def keys(training):
    """In two shards."""
    found = {pair: row_keys(each.sources, each.targets)[1:] for pair, each in training.items()}
    return {pair: [each[:, :1], each[:, 1:]] for pair, each in found.items()}


def test_contamination_counts_sides_pairs_and_normalised_text():
    training = {
        DE_EN: text(DE_EN, "train", ("Ein Hund.", "A dog."), ("Zwei Katzen", "Two cats")),
        FR_EN: text(FR_EN, "train", ("Un chien !", "One more dog!")),
    }
    test = {
        DE_EN: text(
            DE_EN,
            "test",
            ("Ein Hund.", "A dog."),  # both sides as they are
            ("Ein Hund.", "A hound."),  # source only
            ("zwei  KATZEN!", "two cats..."),  # both, normalised only
            ("Ein Vogel", "One more dog!"),  # the target is in the text of another pair
            ("Neu", "New"),
            ("!!!", "???"),  # nothing is left of it: cannot be found
        )
    }
    (found,) = contamination(keys(training), [test])
    assert (found.sources, found.targets, found.both) == (2, 2, 1)
    assert (found.normalised_sources, found.normalised_targets, found.normalised_both) == (3, 3, 2)
    assert (found.sentences, found.example) == (6, "Ein Hund.")


def test_lines_of_punctuation_alone_are_nothing_to_be_found():
    """Also where training text has such lines: normalised, all of them are the same empty text."""
    training = {DE_EN: text(DE_EN, "train", ("...", "!"), ("Ein Hund", "A dog"))}
    (found,) = contamination(keys(training), [{DE_EN: text(DE_EN, "test", ("!!!", "???"), ("- - -", "A dog"))}])
    assert (found.normalised_sources, found.normalised_targets, found.normalised_both) == (0, 1, 0)


def test_contamination_equals_comparing_everything_with_everything(texts, tmp_path):
    """On real phrases, half of them of the training text, some with the partner of another."""
    mixed = {}
    for pair, train in texts["train"].items():
        test = texts["test"][pair]
        sources = [*test.sources[:20], *train.sources[:20]]
        targets = [*test.targets[:20], *train.targets[:10], *train.targets[30:40]]
        mixed[pair] = ParallelText(pair, "test", sources, targets)
    english = [line for each in texts["train"].values() for line in each.targets]
    found = contamination(keys(texts["train"]), [mixed])
    for row, (pair, test) in zip(found, mixed.items(), strict=True):
        left = [line in texts["train"][pair].sources for line in test.sources]
        right = [line in english for line in test.targets]
        assert (row.sources, row.targets) == (sum(left), sum(right))
        assert row.both == sum(one and other for one, other in zip(left, right, strict=True)) >= 20
        loose = {normalised(line) for line in english}
        assert row.normalised_targets == sum(normalised(line) in loose for line in test.targets) >= row.targets
    write_rows(found, tmp_path / "contamination.json")
    assert read_rows(Contamination, tmp_path / "contamination.json") == found


def test_normalised_text_keeps_letters_marks_and_digits():
    assert normalised("Ｄer  2. „HUND“—läuft!") == "der2hundläuft"
    assert normalised("A 2nd. Dog-house_!") == "a2nddoghouse"
    assert normalised("Straße") == normalised("STRASSE")
    assert normalised("हिन्दी में।") == "हिन्दीमें"
