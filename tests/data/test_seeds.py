from hf_paretokd.data.seeds import derive_seed, uniform


def test_seeds_depend_on_every_key_and_on_where_it_ends():
    keys = [(1, "a"), ("a", 1), (1, "b"), (2, "a"), (12, 3), (1, 23), ("1", "23", ""), ()]
    assert len({derive_seed(*each) for each in keys}) == len(keys)
    assert derive_seed(1, "a") == derive_seed("1", "a") < 2**63


def test_seeds_are_the_same_on_every_machine():
    """Written down once: checkpoints and published figures stand on them."""
    assert derive_seed(42, 0, "dropout", 7) == 1147398562638718947
    assert uniform(42, 0, "pair", 7) == 0.8829580224941743


def test_uniform_numbers_are_uniform():
    drawn = sorted(uniform("test", number) for number in range(2000))
    assert all(abs(each - number / 2000) < 0.04 for number, each in enumerate(drawn))
    assert drawn[0] >= 0
    assert drawn[-1] < 1
