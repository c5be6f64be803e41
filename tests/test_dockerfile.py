"""What the Dockerfile promises, as far as it can be read off it; `make docker-check` runs a linter beside."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
RECIPE = [tuple(line.split(maxsplit=1)) for line in LINES if line and not line.startswith("#")]
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def arguments(instruction: str) -> list[str]:
    return [argument for name, argument in RECIPE if name == instruction]


def is_left_out(path: str) -> bool:
    """Docker's rule: the last pattern that matches the path, or a folder above it, decides."""
    left_out = False
    for pattern in IGNORED:
        # fnmatch's star crosses slashes and Docker's two stars match no folder too.
        candidates = [pattern.removeprefix("!"), pattern.removeprefix("!").removeprefix("**/")]
        above = [path, *map(str, Path(path).parents)]
        if any(fnmatch(part, candidate) for part in above for candidate in candidates):
            left_out = not pattern.startswith("!")
    return left_out


def test_the_base_is_one_exact_version():
    (base,) = arguments("FROM")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)


def test_the_sources_are_copied_not_fetched():
    assert "." in arguments("COPY")[-1].split()
    assert not arguments("ADD")
    assert not re.search(r"\b(git|curl|wget)\b", "\n".join(arguments("RUN")))


def test_everything_installed_is_pinned_by_the_requirements():
    assert not [run for run in arguments("RUN") if "pip install" in run]
    assert "make venv" in arguments("RUN")


def test_what_runs_is_unprivileged():
    user = arguments("USER")[-1].split(":")[0]
    assert user.isdigit()
    assert int(user) >= 1000
    after = RECIPE[RECIPE.index(("USER", arguments("USER")[-1])) :]
    assert {name for name, _ in after} >= {"COPY", "CMD"}
    assert all(f"--chown={user}" in copy for copy in arguments("COPY"))


def test_jupyter_is_the_default_and_can_be_reached():
    assert arguments("EXPOSE") == ["8888"]
    (command,) = arguments("CMD")
    assert {"jupyter", "--ip=0.0.0.0", "--port=8888"} <= set(json.loads(command))
    assert not arguments("ENTRYPOINT")  # so that `docker run IMAGE make test` runs the tests
    assert "token" not in command  # Jupyter draws one and prints it: whoever reaches the port is not let in


def test_the_context_holds_the_sources_and_no_data_nor_traces_of_this_machine():
    for path in (
        ".git/config",
        ".venv/built",
        "data_files/training_set.h5",
        "data_files/green2021/stars.h5",
        "runs/stars/model.safetensors",
        "model/__pycache__/ddpm.pyc",
        "trained_models/mixture/checkpoints/step",
        "trained_models/mixture/training_system_info.txt",
    ):
        assert is_left_out(path), path
    for path in ("data_files/README.rst", "Makefile", "model/ddpm.py", "trained_models/mixture/model.safetensors"):
        assert not is_left_out(path), path
