"""Write a mock catalogue in the layout of the paper's files."""

import argparse

from .catalogue import MISSING_KINDS, write

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m model.datasets.mock_apogee_xp", description=__doc__)
    parser.add_argument("path", help="HDF5 file to write")
    parser.add_argument("--stars", type=int, default=400_000, help="number of stars (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default %(default)s)")
    parser.add_argument("--missing", choices=MISSING_KINDS, default="random", help="which stars lack columns")
    arguments = parser.parse_args()
    write(arguments.path, arguments.stars, arguments.seed, arguments.missing)
    print(f"{arguments.path}: mock catalogue of {arguments.stars:,} stars")
