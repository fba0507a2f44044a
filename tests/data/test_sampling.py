import pytest

from hf_paretokd.data.batches import PairBatches
from hf_paretokd.data.sampling import (
    MicroBatchSampler,
    MicroBatchStream,
    SamplerState,
    TemperatureSampling,
    UniMaxSampling,
    expected_sampling,
    temperature_probabilities,
    unimax_shares,
)

WMT6 = {"tr": 5_000, "ro": 10_000, "et": 80_000, "zh": 400_000, "de": 1_500_000, "fr": 3_000_000}


TED8 = {
    "bos": 5_664,
    "mar": 9_840,
    "hin": 18_798,
    "mkd": 25_335,
    "ell": 134_327,
    "bul": 174_444,
    "fra": 192_304,
    "kor": 205_640,
}


@pytest.mark.parametrize(
    ("sizes", "temperature", "expected"),
    [
        (WMT6, 1, (0.001001, 0.002002, 0.016016, 0.080080, 0.300300, 0.600601)),
        (WMT6, 5, (0.076831, 0.088255, 0.133770, 0.184567, 0.240414, 0.276163)),
        (TED8, 1, (0.007391, 0.012840, 0.024529, 0.033059, 0.175281, 0.227629, 0.250934, 0.268336)),
        (TED8, 3, (0.055871, 0.067165, 0.083339, 0.092056, 0.160521, 0.175131, 0.180914, 0.185003)),
        (TED8, 1e9, (0.125,) * 8),
    ],
)
def test_temperature_sampling(sizes, temperature, expected):
    """D-1 and D-2."""
    assert list(temperature_probabilities(sizes, temperature).values()) == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def stream(text):
    pairs = {name: PairBatches(name, text, 500, 1) for name in ("de-en", "fr-en", "bs-en")}
    return MicroBatchStream(pairs, TemperatureSampling({"de-en": 60, "fr-en": 30, "bs-en": 10}, 1.0), 1, 0)


def take(batches, count):
    return [(b.number, b.pair, tuple(b.rows)) for b, _ in zip(batches, range(count), strict=False)]


CRITICAL = {5: 20.515, 7: 24.322}  # χ² at p = 0.001 by degrees of freedom


@pytest.mark.parametrize(("sizes", "temperature"), [(WMT6, 5), (TED8, 1), (TED8, 3)])
def test_sampling_frequencies_follow_the_equation(text, sizes, temperature):
    """PMD Eq. 2, by a χ² test with a fixed seed."""
    batches = PairBatches("any", text, 500, 1)
    stream = MicroBatchStream(dict.fromkeys(sizes, batches), TemperatureSampling(sizes, temperature), 1, 0)
    drawn, count = stream.advance(SamplerState(), 20_000).draws, 20_000
    roots = {pair: size ** (1 / temperature) for pair, size in sizes.items()}
    expected = {pair: count * root / sum(roots.values()) for pair, root in roots.items()}
    statistic = sum((drawn.get(pair, 0) - mean) ** 2 / mean for pair, mean in expected.items())
    assert statistic < CRITICAL[len(sizes) - 1]


@pytest.mark.parametrize(
    ("sizes", "temperature", "counts"),
    [
        (WMT6, 5, (383769, 440835, 668182, 921910, 1200867, 1379434)),
        (TED8, 3, (42816, 51471, 63866, 70547, 123015, 134211, 138644, 141777)),
    ],
)
def test_sentences_of_an_epoch(sizes, temperature, counts):
    """D-3: what a virtual epoch of the official code holds of each pair."""
    total, probabilities = sum(sizes.values()), temperature_probabilities(sizes, temperature)
    assert tuple(int(total * each) for each in probabilities.values()) == counts


@pytest.mark.parametrize(
    ("budget", "epochs", "expected"),
    [
        (3000, 5, (1250, 500, 1250)),  # the smallest five times, the others alike
        (3000, 100, (1000, 1000, 1000)),
        (90_000, 5, (50_000, 500, 5000)),  # all of it: some of the budget is left
        (8000, 3, (4700, 300, 3000)),
    ],
)
def test_unimax_shares(budget, epochs, expected):
    tokens = {"large": 10_000, "small": 100, "middle": 1000}
    assert tuple(unimax_shares(tokens, budget, epochs).values()) == pytest.approx(expected)


def test_unimax_draws_tokens_not_batches():
    """Two pairs of equal text, one in batches twice as full: it is drawn half as often."""
    sampling = UniMaxSampling({"full": 1000, "loose": 1000}, {"full": 10, "loose": 20}, 300, 1e6)
    assert sampling.probabilities(SamplerState()) == {"full": pytest.approx(1 / 3), "loose": pytest.approx(2 / 3)}


def test_peers_have_streams_of_their_own(lengths, text):
    pairs = {name: PairBatches(name, text, 500) for name in ("de-en", "fr-en")}
    sizes = {"de-en": 90, "fr-en": 10}
    streams = [
        MicroBatchStream({n: b.rekeyed(1, peer) for n, b in pairs.items()}, TemperatureSampling(sizes, tau), 1, peer)
        for peer, tau in enumerate((1.0, 100.0))
    ]
    sampler = MicroBatchSampler(streams, lambda: [SamplerState(), SamplerState()], 0, 1)
    drawn = [batches for batches, _ in zip(sampler, range(400), strict=False)]
    assert not hasattr(sampler, "batch_size")
    assert all(first.number == second.number for first, second in drawn)
    shares = [sum(batches[peer].pair == "de-en" for batches in drawn) / 400 for peer in range(2)]
    assert shares == pytest.approx([0.9, 0.5], abs=0.07)
    rows = expected_sampling(streams, 400)
    assert [(row.peer, row.pair) for row in rows] == [(1, "de-en"), (1, "fr-en"), (2, "de-en"), (2, "fr-en")]
    seen = sum(len(batches[0].rows) for batches in drawn if batches[0].pair == "de-en")
    assert rows[0].sentences == pytest.approx(seen, rel=0.05)
    assert rows[0].passes == pytest.approx(seen / len(lengths[0]), rel=0.05)


def test_a_distribution_may_depend_on_the_state(text):
    class Alternating:
        def probabilities(self, state):
            behind = state.draws.get("a", 0) <= state.draws.get("b", 0)
            return {"a": float(behind), "b": float(not behind)}

    stream = MicroBatchStream({name: PairBatches(name, text, 500) for name in "ab"}, Alternating(), 3)
    assert stream.advance(SamplerState(), 300).draws == {"a": 150, "b": 150}


def test_the_stream_goes_on_from_any_state(stream):
    whole = take(stream.batches(SamplerState()), 300)
    middle = stream.advance(SamplerState(), 120)
    assert take(stream.batches(middle), 180) == whole[120:]
    assert stream.advance(stream.advance(SamplerState(), 50), 120) == middle


def test_processes_share_the_stream(stream):
    whole = take(stream.batches(SamplerState()), 300)
    parts = [take(stream.batches(SamplerState(), rank, 3), 100) for rank in range(3)]
    assert [part[index] for index in range(100) for part in parts] == whole
