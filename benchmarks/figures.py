"""Which notebook draws which figure, and a number that each of them printed; part of `benchmarks.report`."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent

# The paper's figure, what it shows, where it is drawn, the picture, and the name of the printed number to compare with.
FIGURES = (
    ("1", "architecture", "python -m model.diagrams", "architecture", None),
    ("2", "nothing given", "Inference", "stars_marginals", "mock stars, KS of teff, nothing given"),
    (
        "2",
        "the same, real stars",
        "Inference",
        "green2021_marginals",
        "stars of Green et al. 2021, KS of teff, nothing given",
    ),
    (
        "3",
        "log g given Teff",
        "Inference",
        "stars_logg_given_teff",
        "mock stars, KS to the exact p(log g | teff = 4700 K)",
    ),
    (
        "3",
        "the same, real stars",
        "Inference",
        "green2021_logg_given_teff",
        "stars of Green et al. 2021, giants (log g < 3.5) at teff = 4700 K: model",
    ),
    (
        "4",
        "Teff from XP",
        "Inference",
        "stars_teff",
        "mock stars, robust scatter of Teff [K], all XP, colours: improved",
    ),
    (
        "4",
        "Teff from photometry, real stars",
        "Inference",
        "green2021_teff",
        "stars of Green et al. 2021, robust scatter of Teff [K] from photometry: improved",
    ),
    ("5", "PIT, random questions", "Inference", "stars_pit", "mock stars, KS of the PIT of teff, random context"),
    (
        "5",
        "the same, real stars",
        "Inference",
        "green2021_pit",
        "stars of Green et al. 2021, KS of the PIT of teff, random context",
    ),
    (
        "6",
        "[M/H], log g, Teff jointly",
        "Inference",
        "stars_joint",
        "mock stars, share with log g > 3.5: samples of the model",
    ),
    (
        "6",
        "the same, real stars",
        "Inference",
        "green2021_joint",
        "stars of Green et al. 2021, share with log g > 3.5: samples of the model",
    ),
    (
        "",
        "log g given Teff and E(B-V)",
        "Inference",
        "stars_logg_given_ebv",
        "mock stars, KS to the exact p(log g | 3800 K, logebv = -3.0)",
    ),
    ("7", "all marginals", "California_Housing", "california_marginals", "KS of HouseValue"),
    ("8", "HouseValue given MedInc", "California_Housing", "california_conditionals", "KS, MedInc = 7.0"),
    ("", "what only the improved recipe resolves", "California_Housing", "california_details", None),
    ("", "calibration", "California_Housing", "california_calibration", "pit_ks"),
    ("", "two moons, forward and back", "DDPM", "ddpm_reverse", "samples told from data"),
    ("", "two Gaussians, given a condition", "DDPM_Conditional", "ddpm_conditional", "mean KS"),
    ("", "against exact densities", "Mixture", "mixture_conditionals", "mean KS"),
    ("", "the mock beside real stars", "Mock_Catalogue", "mock_sky", "mock minus real, median size, colour"),
    ("", "its spectra", "Mock_Catalogue", "mock_spectra", "worst factor between median sizes"),
    ("", "gaps that depend on brightness", "Mock_Catalogue", "mock_missing", None),
    ("", "from catalogues to the file", "Dataset_Reduction", "reduction_missing", "stars in the file"),
)


def printed(notebook: str) -> dict[str, str]:
    """What the last cell of a committed notebook printed: name -> number."""
    cells = json.loads((ROOT / f"{notebook}.ipynb").read_text())["cells"]
    last = [cell for cell in cells if cell["cell_type"] == "code"][-1]
    lines = "".join("".join(output.get("text", "")) for output in last["outputs"]).splitlines()
    return dict(line.rsplit(maxsplit=1) for line in lines if line.strip())


def render() -> str:
    """The table in reStructuredText; ``figs/`` and ``.png`` are left out of the pictures' names."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    header = ("paper", "shows", "drawn by", "picture", "compare with")
    rows = [header]
    for paper, shows, where, picture, name in FIGURES:
        notebook = not where.startswith("python")
        number = f"{name}: {_find(where, name)}" if name else ""
        rows.append((paper, shows, f"``{where}.ipynb``" if notebook else f"``{where}``", f"``{picture}``", number))
    for row in rows:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines)


def _find(notebook: str, name: str) -> str:
    numbers = {key.strip(): number for key, number in printed(notebook).items()}
    if name not in numbers:
        raise ValueError(f"{notebook}.ipynb printed no {name!r}; it printed {', '.join(numbers)}")
    return numbers[name]
