"""Names of columns <-> token ids."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

PADDING = 0


class Vocabulary:
    """The columns a network knows, in the order of their token ids 1 .. V; id 0 is padding.

    Args:
        names: Column names, V of them, unique.

    Example:
        >>> vocabulary = Vocabulary(["teff", "logg"])
        >>> vocabulary.token("logg"), vocabulary.names[1 - 1]
        (2, 'teff')
    """

    def __init__(self, names: Iterable[str]):
        self.names = tuple(names)
        self._tokens = {name: i for i, name in enumerate(self.names, start=1)}
        if len(self._tokens) != len(self.names):
            raise ValueError(f"column names must be unique: {', '.join(map(str, self.names))}")

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._tokens

    def token(self, name: str) -> int:
        """The token id of a column.

        Raises:
            KeyError: If no column has this name; the message lists the nearest ones.
        """
        if name not in self._tokens:
            nearest = difflib.get_close_matches(str(name), self.names, n=5, cutoff=0.3) or self.names[:10]
            raise KeyError(f"no column {name!r}; the nearest are: {', '.join(nearest)}")
        return self._tokens[name]

    def index(self, name: str) -> int:
        """The position of a column in the table, 0 .. V - 1; errors as `token`."""
        return self.token(name) - 1
