"""What the improved recipe asks while it trains: a column first, then a row that has it, then what is given.

A question is a requested column and the set of columns that is given. The rows it is trained on are drawn evenly among
those that have all of them, so that the learned density is the table's. (Drawn row by row, a row with few values would
be asked more often for each of them, and for questions that give little.)

B rows of a lot, L context slots, V kinds of data, G groups of them, N rows of the pool, K noise draws per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...nn import Batch, DensityNetwork

CANDIDATES = 16  # rows that are looked at for one that has all that is given
GROUPED = 0.5  # share of the lots in which what is known of a long group is known whole


class Questions:
    """Draws questions to a pool of rows, in lots that share one length of context.

    Args:
        z: Rows on the standard scale, NaN = not observed, (N, V).
        network: Its slots say how a context is laid out, its head draws the noise.
        spread: Gives targets that are atoms a place in their intervals: (target, column, place in 0 .. 1) -> target.
        requestable: True for the columns that may be requested, (V,).
        groups: The group of each column, (V,).
        complete: Share of the lots that give all that is observed.
        noise_draws: Noise draws K per row.
        focus: What the chance of each column is multiplied with, (V,); may be changed from outside.
    """

    def __init__(
        self,
        z: Tensor,
        network: DensityNetwork,
        spread: Callable[[Tensor, Tensor, Tensor], Tensor],
        requestable: Tensor,
        groups: Sequence[str],
        complete: float,
        noise_draws: int,
        focus: Tensor | None = None,
    ):
        self.slots, self.head, self.spread = network.slots, network.head, spread
        self.complete, self.noise_draws = complete, noise_draws
        self.focus = torch.ones(z.shape[1], device=z.device) if focus is None else focus
        self.observed = ~z.isnan()
        self.z = z.nan_to_num(0.0)
        self.gaps = not bool(self.observed.all())
        names = list(dict.fromkeys(groups))
        self.group = torch.tensor([names.index(group) for group in groups])  # on the host, where lots are planned
        size = torch.bincount(self.group).to(z.device)
        self.is_group = size[self.group.to(z.device)] > 1  # (V,)
        self.grouped = len(names) < len(groups)
        count = self.observed.sum(0)  # (V,)
        # Rare columns are asked for less often, by the root of their share: their few rows are soon known by heart.
        asked = requestable.to(z.device) & (count > 0)
        self.chance = (count / len(z)).sqrt() / size[self.group.to(z.device)] * asked
        if not self.chance.sum():
            raise ValueError("no row has an observed value in a column that can be requested")
        # The rows that have column 0, then those that have column 1, ...
        self.rows = self.observed.T.nonzero()[:, 1]
        self.count, self.start = count, count.cumsum(0) - count
        self.rank = self._ranks().to(z.device)

    def lot(self, size: int, seed: int) -> Batch:
        """B questions that share the length, or the groups, of their contexts; the same for the same seed."""
        host, device = np.random.default_rng(seed), self.z.device
        generator = torch.Generator(device).manual_seed(seed)
        column = torch.multinomial(self.chance * self.focus, size, replacement=True, generator=generator)  # (B,)
        row = self._rows_with(column.unsqueeze(1), generator).squeeze(1)
        usable = self.observed[row].scatter(1, column.unsqueeze(1), False)  # (B, V): a target is not in its context
        given, length, patched = self._context(usable, host, generator)
        if self.gaps:
            row = self._exchange(row, column, given, generator)
        z = self.z[row]
        place = torch.rand(size, generator=generator, device=device)
        target = self.spread(z.gather(1, column.unsqueeze(1)).squeeze(1), column, place)
        t, noise = self.head.draw(size, self.noise_draws, generator)
        token, value, patch = self.slots.pack(z, given, length, patched)
        return Batch(token, value, column + 1, target, t, noise, patch)

    def _rows_with(self, column: Tensor, generator: torch.Generator) -> Tensor:
        """Rows that have these columns, each drawn evenly among all that do; shape of column."""
        place = torch.rand(column.shape, generator=generator, device=column.device, dtype=torch.float64)
        count = self.count[column]
        return self.rows[self.start[column] + (place * count).long().minimum(count - 1)]

    def _exchange(self, row: Tensor, column: Tensor, given: Tensor, generator: torch.Generator) -> Tensor:
        """Other rows in place of those whose gaps shaped the questions: any that have what is asked and given.

        Of `CANDIDATES` the first that fits is taken; where none does, the row stays.
        """
        others = self._rows_with(column.unsqueeze(1).expand(-1, CANDIDATES), generator)  # (B, CANDIDATES)
        fits = (self.observed[others] | ~given.unsqueeze(1)).all(dim=2)
        first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
        return torch.where(fits.any(dim=1), others.gather(1, first).squeeze(1), row)

    def _context(self, usable: Tensor, host: np.random.Generator, generator: torch.Generator) -> tuple:
        """What of each row is given, (B, V); the most single columns that any row gives; whether patches may be."""
        n_groups, n_columns = int(self.group.max()) + 1, len(self.group)
        if host.random() < self.complete:
            return usable, n_columns - (not self.grouped), True
        most = n_groups if self.grouped else n_columns - 1
        # Half of the lengths are even, half even in the logarithm: few values are what is given most often.
        number = int(host.integers(most + 1)) if host.random() < 0.5 else int((most + 2) ** host.random()) - 1
        if not self.grouped:
            keys = torch.rand(usable.shape, generator=generator, device=usable.device).masked_fill(~usable, -1.0)
            last = keys.topk(number, dim=1).values[:, -1:] if number else 2.0
            return (keys >= last) & usable, number, False
        chosen = torch.zeros(n_groups, dtype=torch.bool)
        chosen[torch.from_numpy(host.permutation(n_groups)[:number])] = True
        known = chosen[self.group]  # (V,), on the host
        given = usable & known.to(usable.device) & self._parts(len(usable), host, generator)
        alone = int(known[self.slots.single.cpu()].sum())
        return given, alone, bool(known.sum() > alone)

    def _parts(self, size: int, host: np.random.Generator, generator: torch.Generator) -> Tensor:
        """What is known of each group, (B, V): all of it, or in half of the lots a range or a random share."""
        n_groups, device = int(self.group.max()) + 1, self.z.device
        if host.random() < GROUPED:
            return torch.ones(size, len(self.group), dtype=torch.bool, device=device)
        group = self.group.to(device)

        def random(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        ends = random(size, n_groups, 2).sort(dim=2).values
        side = random(size, n_groups)
        low = torch.where(side < 1 / 3, 0.0, ends[:, :, 0])[:, group]  # a third begin at the first component,
        high = torch.where(side > 2 / 3, 1.0, ends[:, :, 1])[:, group]  # a third end at the last
        in_range = (self.rank >= low) & (self.rank <= high)
        scattered = random(size, len(group)) < random(size, n_groups)[:, group]
        return torch.where((random(size, n_groups) < 0.5)[:, group], in_range, scattered) | ~self.is_group

    def _ranks(self) -> Tensor:
        """The place of each column in its group, in 0 .. 1, (V,)."""
        seen, place = torch.zeros(int(self.group.max()) + 1), []
        for group in self.group.tolist():
            place.append(float(seen[group]) + 0.5)
            seen[group] += 1
        return torch.tensor(place) / seen[self.group]


def together(lots: Sequence[Batch], tokens: int) -> list[Batch]:
    """The lots put together, as long as so many tokens are not passed; shorter contexts are padded."""
    parts: list[list[Batch]] = []
    for lot in sorted(lots, key=lambda lot: (lot.patch is not None, lot.token.shape[1])):
        part = parts[-1] if parts else []
        slots = 1 + lot.token.shape[1] + (lot.patch.shape[1] if lot.patch is not None else 0)
        rows = len(lot.target) + sum(len(other.target) for other in part)
        alike = part and (part[-1].patch is None) == (lot.patch is None)
        if alike and rows * slots <= tokens:
            part.append(lot)
        else:
            parts.append([lot])
    return [_joined(part) for part in parts]


def _joined(lots: list[Batch]) -> Batch:
    longest = max(lot.token.shape[1] for lot in lots)

    def padded(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (0, longest - x.shape[1]))

    columns = [
        [padded(lot.token) for lot in lots],
        [padded(lot.value) for lot in lots],
        *zip(*(lot[2:6] for lot in lots)),
    ]
    patch = None if lots[0].patch is None else torch.cat([lot.patch for lot in lots])
    return Batch(*(torch.cat(list(column)) for column in columns), patch)
