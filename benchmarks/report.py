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

from benchmarks import figures

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "trained_models"
MANY_ROWS = "three_quantiles_tiny_network"  # the question of `benchmarks.memory` with the most rows

SHOWN = {
    "california_housing": ["HouseValue"],
    "california_housing_dropout": ["HouseValue"],
    "california_housing_improved": ["HouseValue", "MedInc", "Latitude"],
    "green2021": ["logg", "teff"],
    "green2021_improved": ["logg", "teff"],
    "mixture": [],
    "mixture_improved": [],
}


def read(name: str) -> dict:
    return json.loads((RUNS / name / "metrics.json").read_text())


def rows() -> list[tuple[str, str, str]]:
    """Checkpoint, what was measured, the value."""
    table = []
    for name, columns in SHOWN.items():
        metrics = read(name)
        test = metrics["test"]
        stage = "training, last stage" if "--init-from" in metrics["command"] else "training"
        table.append((name, stage, f"{metrics['seconds'] / 60:.0f} min"))
        for column in columns:
            result = test["columns_given_all_others"][column]
            table += [
                (name, f"CRPS of {column} given all others, {result['n']:.0f} test rows", f"{result['crps']:.4g}"),
                (name, f"its skill against the marginal of {column}", f"{result['crps_skill']:.3f}"),
                (
                    name,
                    f"KS of its PIT (99% threshold {result['pit_ks_threshold']:.3f})",
                    f"{result['pit_ks']:.3f}",
                ),
                (
                    name,
                    f"worst within bins of another column (99% threshold {result['worst_bin_threshold']:.3f})",
                    f"{result['worst_bin_ks']:.3f}",
                ),
                (
                    name,
                    "truths within its central 68% and 95%",
                    f"{result['coverage_68']:.3f}, {result['coverage_95']:.3f}",
                ),
            ]
        if "ks_unconditional" in test:
            found = test["ks_unconditional"]
            later = f" ({found['date']})" if found.get("date", test["date"]) != test["date"] else ""
            quantity = f"mean KS, 20,000 unconditional samples against all rows{later}"
            table.append((name, quantity, f"{found['mean']:.4f}"))
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
    """The ratios of the training and inference benchmarks in reStructuredText."""
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
        *answers(),
    ]
    return "\n".join(textwrap.fill(line, 120, initial_indent="* ", subsequent_indent="  ") for line in lines)


def answers() -> list[str]:
    """What the inference benchmark found; nothing where it has not been run."""
    path = ROOT / "benchmarks" / "results" / "inference.json"
    if not path.exists():
        return []
    results = json.loads(path.read_text())
    ratio = {key.removeprefix("ratio_"): value for key, value in results.items() if key.startswith("ratio_")}
    rows = results["memory"][MANY_ROWS]["rows"]
    lines = [
        "Answers against the published sampling loop (``make bench-inference``; stars configuration, fp32): 10,000 "
        f"samples of one source {ratio['one_source']:.0f} times as fast (by the published "
        f"head {ratio['one_source_published_head']:.0f} times); summaries {ratio['summary']:.0f} times "
        f"({ratio['summary_few_at_a_time']:.0f} times if the loop takes few stars at a time); a joint of three columns "
        f"{ratio['joint']:.1f} times, with nothing given {ratio['joint_nothing_given']:.1f} times; on "
        f"{results['hardware']}, {results['date']}.",
        f"Peak memory of a million samples of one row, or of three quantiles of {rows:,} rows, beyond model, table and "
        f"result: {results['peak_memory_gb']} GB.",
    ]
    if results["questions"]:
        lines.append(solver_errors(results))
    if gpu := results["gpu"]:
        lines.append(
            f"On {gpu['hardware']}: 10,000 samples of one source in {gpu['one_source_ms']} ms, "
            f"{gpu['summaries_per_second']:.0f} summaries a second, the Gaia XP sources in {gpu['hours_gaia_xp']} h."
        )
    return lines


def solver_errors(results: dict) -> str:
    """The errors that come with the speeds of `answers`."""
    full, coarse = (
        f"{r['steps']} steps, {r['points']} nodes" for r in map(results["settings"].get, ("full", "coarse"))
    )
    summary, published = results["summary_error"], []
    for name, errors in results["checkpoints"].items():
        if errors["recipe"] == "published":
            published.append(f"{errors['ks_solver']:.4f} and {errors['ks_solver_max']:.4f} (``{name}``)")
    return (
        f"Their errors, in {results['questions']} random questions to the improved checkpoints against 1,000 steps: KS "
        f"{results['ks_solver']:.4f} in the mean, {results['ks_solver_max']:.4f} at worst ({full}); in summaries the "
        f"median is off by {summary['median']:.4f} sigma and sigma by {summary['sigma']:.4f} of itself, in the mean "
        f"({coarse}). Published checkpoints against all T steps, KS in the mean and at worst: {', '.join(published)}."
    )


def render_densities() -> str:
    """What `benchmarks.densities` found, in reStructuredText."""
    results = json.loads((ROOT / "benchmarks" / "results" / "densities.json").read_text())
    exact = results["mixture_improved"]
    given = ", ".join(f"{x:.4f}" for x in exact["mean_ks_exact_given"])
    nats = ", ".join(f"{x:.3f}" for x in exact["mean_logpdf_error_given"])
    lines = [
        f"``mixture_improved`` against the exact conditionals, one or all three other columns given: KS "
        f"{exact['mean_ks_exact']:.4f} in the mean, {exact['worst_ks_exact']:.4f} at worst; the log density is off by "
        f"{exact['mean_logpdf_error']:.3f} nat in the mean over the central 99%. Given no, 1, 2 and 3 columns: KS "
        f"{given}; {nats} nat.",
        f"Noisy columns (``errors=``): mean KS {exact['errors_ks']:.4f}, worst {exact['errors_ks_max']:.4f}; true "
        f"values behind a measurement (``denoise``): {exact['denoise_ks']:.4f} and {exact['denoise_ks_max']:.4f}.",
        f"The joint log density of three columns varies by {exact['joint_order_spread']:.3f} nat with their order and "
        f"is off by {exact['joint_logpdf_error']:.3f}; a classifier tells 10,000 joint samples from exact ones in "
        f"{exact['c2st']:.1%} of cases (50% is chance).",
    ]
    for name, result in results.items():
        steps = "1,000" if name.endswith("_improved") else "all T"
        lines.append(
            f"``{name}``: solver against {steps} steps, KS {result['mean_ks_solver']:.4f} in the mean of 200 "
            f"questions, {result['worst_ks_solver']:.4f} at worst; its samples against those of its stochastic "
            f"sampler, 40,000 each, KS {result['ks_flow_sde']:.4f} in the mean, {result['ks_flow_sde_max']:.4f} at "
            f"worst ({result['hardware']}, {result['date']})."
        )
    return "\n".join(textwrap.fill(line, 120, initial_indent="* ", subsequent_indent="  ") for line in lines)


def render_truth() -> str:
    """What `benchmarks.truth` found, in reStructuredText."""
    results = json.loads((ROOT / "benchmarks" / "results" / "truth.json").read_text())
    lines = [
        f"{results['stars']} mock stars that no checkpoint has seen, each asked three questions; on "
        f"{results['hardware']}, {results['date']}. The exact posteriors are importance samples of an effective size "
        f"of {results['least_effective_sample_size']:,} or more."
    ]
    for name, result in results["checkpoints"].items():
        kinds = ", ".join(f"{ks['mean']:.3f} given {kind}" for kind, ks in result["ks"].items())
        low, middle, high = result["width_ratio"]
        metrics = read(name)
        seen = metrics["rows_seen"] if "rows_seen" in metrics else metrics["rows"]["train"] * metrics["epoch"]
        minutes = metrics["seconds"] / 60
        last = ", its last stage" if "--init-from" in metrics["command"] else ""
        lines.append(
            f"``{name}`` ({metrics['parameters']:,} parameters; {seen:,} rows seen in {minutes:.0f} min{last}): KS to "
            f"the exact posterior {result['mean_ks']:.3f} in the mean; {kinds}. Its widths (16 to 84%) are "
            f"{middle:.2f} of the exact ones ({low:.2f} to {high:.2f} for the central 68% of the questions); of the "
            f"{result['two_peaks']} densities with two peaks it misplaces {result['mode_mass_error']:.3f} of the mass."
        )
    return "\n".join(textwrap.fill(line, 120, initial_indent="* ", subsequent_indent="  ") for line in lines)


def blocks() -> dict[str, str]:
    """What stands in the README between the marks of each name."""
    parts = {"figures": figures.render, "results": render, "densities": render_densities}
    return {name: part() for name, part in (parts | {"truth": render_truth, "speed": render_speed}).items()}


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
