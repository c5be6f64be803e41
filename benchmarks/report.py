"""The results table of the README, from the ``metrics.json`` of the committed checkpoints.

::

    python -m benchmarks.report [--write]
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "trained_models"

SHOWN = {
    "california_housing": ["HouseValue"],
    "california_housing_dropout": ["HouseValue"],
    "green2021": ["logg", "teff"],
}


def read(name: str) -> dict:
    return json.loads((RUNS / name / "metrics.json").read_text())


def rows() -> list[tuple[str, str, str]]:
    """Checkpoint, what was measured, the value."""
    table = []
    for name in ("california_housing", "california_housing_dropout", "green2021", "mixture"):
        metrics = read(name)
        test = metrics["test"]
        stage = "training, last stage" if "--init-from" in metrics["command"] else "training"
        table.append((name, stage, f"{metrics['seconds'] / 60:.0f} min"))
        for column in SHOWN.get(name, []):
            result = test["columns_given_all_others"][column]
            table += [
                (name, f"CRPS of {column} given all others, {result['n']:.0f} test rows", f"{result['crps']:.4g}"),
                (name, f"its skill against the marginal of {column}", f"{result['crps_skill']:.3f}"),
                (
                    name,
                    f"KS of its PIT (99% threshold {result['pit_ks_threshold']:.3f})",
                    f"{result['pit_ks']:.3f}",
                ),
            ]
        if "ks_unconditional" in test:
            distance = test["ks_unconditional"]["mean"]
            table.append((name, "mean KS, 20,000 unconditional samples against all rows", f"{distance:.4f}"))
        if "bimodality" in test:
            stars = test["bimodality"]
            observed = f"{stars['fraction_of_giants']:.3f} +- {stars['standard_error']:.3f}"
            table.append((name, f"giants among {stars['stars']} test stars of 4400 to 5000 K", observed))
            table.append((name, "the same from p(log g | Teff)", f"{stars['predicted_fraction']:.3f}"))
        if "ks_exact" in test:
            table.append((name, "mean KS to the exact conditionals, 30 questions", f"{test['ks_exact']['mean']:.4f}"))
            table.append((name, "worst of them", f"{test['ks_exact']['worst']:.4f}"))
    return table


def render() -> str:
    """The table in reStructuredText, with hardware and date."""
    cells = [("checkpoint", "quantity", "value"), *rows()]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    measured = read("california_housing")
    note = f"Trained on {measured['hardware']}; measured on {measured['test']['date']}."
    return "\n".join([note, "", rule, lines[0], rule, *lines[1:], rule])


def render_speed() -> str:
    """The ratios of the training benchmark in reStructuredText."""
    results = json.loads((ROOT / "benchmarks" / "results" / "training.json").read_text())
    resumed = json.loads((ROOT / "benchmarks" / "results" / "resume.json").read_text())
    cpu, gpu = results["cpu"], results["gpu"]
    timed = f"{gpu['bf16']['ratio']} times in bf16 on {gpu['hardware']}" if gpu else "not timed on a GPU yet"
    lines = [
        f"{results['ratio_fp32']} times as fast in fp32 and {results['ratio_bf16']} times in bf16 on "
        f"{cpu['hardware']}, {results['date']}; {timed}.",
        f"Time per star with 400,000 rows over that with 10,000: {cpu['time_per_star_400000_over_10000']}. "
        f"Peak memory beyond the table: {cpu['peak_memory_beyond_the_table_gb']} GB.",
        f"Killed at random instants and resumed (``make bench-resume``): {resumed['identical']} of "
        f"{resumed['kills']} runs ended bit-identical to one that was not.",
    ]
    return "\n".join(textwrap.fill(line, 120, initial_indent="* ", subsequent_indent="  ") for line in lines)


def blocks() -> dict[str, str]:
    """What stands in the README between the marks of each name."""
    return {"results": render(), "speed": render_speed()}


def main():
    readme = ROOT / "README.rst"
    text = readme.read_text()
    for name, block in blocks().items():
        print(block)
        marked = f".. {name} begin\n\n{block}\n\n.. {name} end"
        text = re.sub(rf"\.\. {name} begin\n.*?\.\. {name} end", lambda _, m=marked: m, text, flags=re.DOTALL)
    if "--write" in sys.argv[1:]:
        readme.write_text(text)


if __name__ == "__main__":
    main()
