"""The improved recipe's questions: each row as often as it should be, nothing invented, nothing left out."""

import numpy as np
import pytest
import torch

from model.config import EXPERIMENTS
from model.nn import DensityNetwork
from model.training.batches import LOTS, Pools, Questions, pools, together

SIZES = {"embedding_dim": 8, "heads": 2, "feedforward_dim": 16, "layers": 1, "head_width": 8, "head_layers": 1}
LONG = ("spectrum",) * 25 + ("colours",) * 3 + ("teff", "logg")


def no_atoms(target, column, place):
    return target


def make_questions(z, groups=None, requestable=None, complete=0.5) -> Questions:
    z = torch.as_tensor(z, dtype=torch.float32)
    groups = groups or tuple(map(str, range(z.shape[1])))
    experiment = EXPERIMENTS["mixture"].override(recipe="improved", **SIZES)
    with torch.random.fork_rng():
        network = DensityNetwork(z.shape[1], experiment, groups)
    requestable = torch.ones(z.shape[1], dtype=torch.bool) if requestable is None else torch.tensor(requestable)
    return Questions(z, network, no_atoms, requestable, groups, complete, noise_draws=2)


def named(n: int, columns: int) -> torch.Tensor:
    """Values that name their row and column."""
    return torch.arange(n, dtype=torch.float32)[:, None] * 100 + torch.arange(columns)


def lots(questions: Questions, n=200, size=64):
    return [questions.lot(size, seed) for seed in range(n)]


def test_a_lot_holds_values_of_one_row_each_and_never_its_target():
    z = named(50, 6)
    z[torch.rand(z.shape, generator=torch.Generator().manual_seed(0)) < 0.4] = torch.nan
    z[:, 0] = named(50, 1)[:, 0]
    for lot in lots(make_questions(z), 50):
        row = (lot.target // 100).long()
        assert torch.equal(lot.target, z[row, lot.request - 1])
        filled = lot.token > 0
        assert torch.equal(lot.value[filled], z[row[:, None].expand_as(lot.token)[filled], lot.token[filled] - 1])
        assert (lot.value[~filled] == 0).all()
        assert not (lot.token == lot.request[:, None]).any()
        assert lot.patch is None
        assert lot.t.shape == (64, 2)
        assert lot.noise.shape == (64, 2, 1)


def test_the_same_seed_gives_the_same_lot():
    one, other = (make_questions(named(50, 4)).lot(16, seed=5) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one[:6], other[:6]))
    assert not torch.equal(one.request, make_questions(named(50, 4)).lot(16, seed=6).request)


def test_rows_with_gaps_are_asked_no_more_often_than_others():
    """Half of the rows have 20 columns, half have two: drawn row by row, these would be nine tenths."""
    z = np.full((400, 20), np.nan)
    z[:, :2] = np.where(np.arange(400) < 200, 1, -1)[:, None]
    z[:200, 2:] = 0
    questions = make_questions(z, requestable=[True] + [False] * 19)
    nothing, shared = [], []
    for lot in lots(questions, 400):
        given = (lot.token > 0).sum(1)
        nothing.append(lot.target[given == 0])
        shared.append(lot.target[(given == 1) & (lot.token[:, :1] == 2).any(1)])
    for targets in map(torch.cat, (nothing, shared)):
        n = len(targets)
        assert n > 1000
        assert abs((targets < 0).float().mean() - 0.5) < 4 * 0.5 / np.sqrt(n)


def test_a_column_is_asked_by_the_root_of_its_share_and_a_vector_as_often_as_a_number():
    z = np.zeros((400, 3))
    z[100:, 1] = np.nan
    asked = torch.cat([lot.request for lot in lots(make_questions(z), 400)])
    share = torch.bincount(asked, minlength=4)[1:] / len(asked)
    assert (share - torch.tensor([2, 1, 2]) / 5).abs().max() < 4 * 0.5 / np.sqrt(len(asked))
    asked = torch.cat([lot.request for lot in lots(make_questions(np.zeros((50, 30)), LONG), 400)]) - 1
    share = torch.bincount(asked, minlength=30) / len(asked)
    for columns in (slice(0, 25), slice(25, 28), slice(28, 29), slice(29, 30)):
        assert abs(share[columns].sum() - 1 / 4) < 4 * 0.5 / np.sqrt(len(asked))


def test_a_column_that_cannot_be_requested_is_given_only():
    questions = make_questions(named(30, 3), requestable=[True, False, True])
    drawn = lots(questions, 60)
    assert not (torch.cat([lot.request for lot in drawn]) == 2).any()
    assert any((lot.token == 2).any() for lot in drawn)
    with pytest.raises(ValueError, match="no row has an observed value"):
        make_questions(named(30, 3), requestable=[False] * 3)


def test_half_of_the_lots_give_all_there_is_and_the_others_any_number():
    questions = make_questions(named(60, 9), complete=0.5)
    lengths = np.array([lot.token.shape[1] for lot in lots(questions, 2000, size=2)])
    counts = np.bincount(lengths, minlength=9) / len(lengths)
    assert len(counts) == 9
    assert 0.5 < counts[8] < 0.6
    assert counts[:8].min() > 0.02
    assert counts[0] > counts[4]  # few values are what is given most often


def test_patches_hold_what_is_given_of_a_long_vector_and_nan_elsewhere():
    z = named(40, 30)
    z[:20, 15:25] = torch.nan  # half of the rows have a short spectrum
    questions, kinds = make_questions(z, LONG), set()
    for lot in lots(questions, 80):
        row = (lot.target // 100).long()
        assert lot.token.shape[1] <= 5
        assert (lot.token == 0).logical_or(lot.token > 25).all(), "coefficients have no slots of their own"
        if lot.patch is None:
            kinds.add("none")
            continue
        assert lot.patch.shape == (64, 3, 10)
        flat = lot.patch.flatten(1)[:, :25]
        given = ~flat.isnan()
        assert torch.equal(flat[given], z[row, :25][given])
        assert lot.patch.flatten(1)[:, 25:].isnan().all()
        requested = lot.request[:, None] - 1 == torch.arange(25)
        assert not (given & requested).any()
        whole = (given | requested).sum(1)  # of a short spectrum 15
        kinds.add("whole" if ((whole == 15) | (whole == 25)).all() else "part")
    assert kinds == {"none", "whole", "part"}


def test_lots_put_together_lose_nothing():
    drawn = lots(make_questions(named(40, 6)), 16, size=8)
    parts = together(drawn, tokens=200)
    assert 1 < len(parts) < 16
    assert sorted(torch.cat([part.target for part in parts]).tolist()) == sorted(
        torch.cat([lot.target for lot in drawn]).tolist()
    )
    for part in parts:
        row = (part.target // 100).long()
        filled = part.token > 0
        assert torch.equal((part.value // 100).long()[filled], row[:, None].expand_as(part.token)[filled])
    assert len(together(drawn, tokens=10**9)) == 1
    mixed = together(lots(make_questions(named(40, 30), LONG), 30, size=4), tokens=10**9)
    assert [part.patch is None for part in mixed] == [True, False]


class TestPools:
    @pytest.fixture
    def read(self):
        return lambda rows: torch.from_numpy(rows[:, None] * 1.0).float()

    def make(self, read, n, lots=range(LOTS), batch_size=64):
        return Pools(np.arange(n), read, lambda z: z, batch_size, lots, 0, torch.device("cpu"))

    def test_a_small_table_is_one_pool_for_good(self, read):
        made = self.make(read, 100)
        assert made.questions(0, 3) is made.questions(10**6, 7)
        assert torch.equal(made.questions(0, 0)[:, 0], torch.arange(100.0))

    def test_a_large_table_is_gone_through_whole_in_every_pass(self, read, monkeypatch):
        monkeypatch.setattr(pools, "POOL", 300)
        made = self.make(read, 1000, batch_size=100)
        for turn in range(2):
            seen = [made.questions(3 * (4 * turn + pool), lot)[:, 0] for pool in range(4) for lot in range(LOTS)]
            assert torch.equal(torch.cat(seen).sort().values, torch.arange(1000.0))

    def test_a_process_reads_its_own_lots_and_finds_in_them_what_one_process_finds(self, read, monkeypatch):
        monkeypatch.setattr(pools, "POOL", 300)
        number_read = []

        def counted(rows):
            number_read.append(len(rows))
            return read(rows)

        half = self.make(counted, 1000, lots=range(1, LOTS, 2))
        whole = self.make(read, 1000)
        assert torch.equal(half.questions(0, 3), whole.questions(0, 3))
        half.reader.shutdown()
        assert sum(number_read) <= 2 * 130  # this pool and the next, half of 250 rows each
