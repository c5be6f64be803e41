"""The paper's two files of stars from Zenodo: ``make data``, or ``python -m model.datasets.download``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from .apogee_xp import ORIGIN, TESTING_FILE, TRAINING_FILE
from .files import data_folder

RECORD = "12738256"
DOI = f"10.5281/zenodo.{RECORD}"
SITE = "https://zenodo.org"
# The smaller one first: what is wrong shows early.
FILES = (TESTING_FILE, TRAINING_FILE)
TIMEOUT = 60  # seconds without a single byte
CHUNK = 1 << 16  # bytes; what a cut connection loses at most


def download(folder: Path, site: str = SITE, retries: int = 2) -> list[Path]:
    """Fetch what is missing of the paper's files, verified against the checksums that Zenodo publishes.

    A file that is there is verified and left alone. A transfer that is cut is continued, within this call up to
    `retries` times, else by the next one: what has arrived waits in ``<name>.part``.

    Args:
        folder: Where the files belong; made if it is not there.
        site: Where the record's files are served.
        retries: How often a transfer that failed is taken up again.

    Returns:
        The paths of the files.

    Raises:
        FileExistsError: If another file has the name of one of them; it is not touched.
        ValueError: If what arrived has another checksum; it is deleted.
        OSError: If the server cannot be reached, or does not know the record or the file.
    """
    store = _open_record(folder, site, retries)
    return [_fetch(store, folder / name) for name in FILES]


def _open_record(folder: Path, site: str, retries: int):
    """A pooch that knows the files of the record and their checksums."""
    import pooch

    # Not the links that pooch would take from the description: those ignore Range (zenodo/zenodo issue 2593).
    urls = {name: f"{site}/records/{RECORD}/files/{name}?download=1" for name in FILES}
    store = pooch.create(folder, f"doi:{DOI}", urls=urls, retry_if_failed=retries, allow_updates=False)
    try:
        store.load_registry_from_doi()
    except (OSError, KeyError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConnectionError(f"no list of files and checksums from {ORIGIN}; try again later ({reason})") from error
    lacking = [name for name in FILES if name not in store.registry]
    if lacking:
        raise FileNotFoundError(f"{ORIGIN} has no {' and no '.join(lacking)}, only {', '.join(store.registry)}")
    return store


def _fetch(store, path: Path) -> Path:
    import requests

    there = path.exists()
    try:
        store.fetch(path.name, downloader=_continuing(path.with_name(f"{path.name}.part")))
    except requests.RequestException as error:
        raise ConnectionError(f"{path.name}: {error}; what has arrived is kept, run this again to continue") from error
    except ValueError as error:
        if there:
            raise FileExistsError(
                f"{path} is not the file of {ORIGIN}: its checksum is another. It was left as it is; "
                "move or delete it, then run this again"
            ) from error
        raise
    return path


def _continuing(part: Path) -> Callable:
    """A downloader for pooch, whose own starts from the first byte again after every failure.

    Args:
        part: Holds what has arrived until it is all there; only then does pooch get it, to verify and to put in place.
    """

    def transfer(url: str, output_file: str, store):
        import pooch
        import requests
        from tqdm import tqdm

        have = part.stat().st_size if part.exists() else 0
        # Zenodo throttles nameless clients; a compressed transfer could not be continued by its size on disk.
        headers = pooch.DOIDownloader().headers | {"Accept-Encoding": "identity"}
        headers |= {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            # Range not satisfiable: nothing is left to send, and the checksum will tell whether it is the file.
            if not (have and response.status_code == requests.codes.requested_range_not_satisfiable):
                response.raise_for_status()
                if response.status_code != requests.codes.partial_content:
                    have = 0  # a server that ignores Range sends the whole file
                total = have + int(response.headers.get("Content-Length", 0))
                bar = tqdm(desc=part.stem, initial=have, total=total or None, unit="B", unit_scale=True)
                with part.open("ab" if have else "wb") as file, bar:
                    for chunk in response.iter_content(CHUNK):
                        bar.update(file.write(chunk))
        part.replace(output_file)

    return transfer


def main():
    """Download into the data folder; an error is one line."""
    try:
        for path in download(data_folder()):
            print(f"{path}: complete, checksum verified")
    except (OSError, ValueError) as error:
        sys.exit(f"make data: error: {error}")
    except KeyboardInterrupt:
        sys.exit("make data: stopped; run it again to continue")


if __name__ == "__main__":
    main()
