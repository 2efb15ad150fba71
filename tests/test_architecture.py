"""What holds for the repository as a whole."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
CONTRACTS = PYPROJECT["tool"]["importlinter"]["contracts"]
_NAMES = [path for path in (REPOSITORY / "toygan").iterdir() if not path.name.startswith("_")]
MODULES = [path.stem for path in _NAMES if path.suffix == ".py"]
ROOMS = [path.name for path in _NAMES if (path / "__init__.py").exists()]
TOP_LEVEL = {
    "flows",
    "toygan",
    "catalog_schemas",
    "tests",
    "docker",
    "pyproject.toml",
    "README.md",
    "constraints.txt",
    "LICENSE",
    "NOTICE",
}
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 350, 60, 8
# In two halves, or this file would be the first to break the rule.
REGISTRY_HOSTS = [
    ".".join(halves)
    for halves in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download.pytorch", "org"),
        ("anaconda", "org"),
        ("npmjs", "org"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
    ]
]


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The paths that git knows."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip(f"{REPOSITORY} is no git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True)
    return listing.stdout.decode().rstrip("\0").split("\0")


@pytest.fixture(scope="module")
def constraints() -> dict[str, str]:
    """Version by canonical name."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
    pins = [line.split("==") for line in lines]
    by_name = {str(canonicalize_name(name)): pinned for name, pinned in pins}
    assert len(by_name) == len(pins)
    return by_name


def requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for extra in extras.values() for text in extra)]
    return [found for text in texts if (found := Requirement(text)).name != "toygan"]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: import-linter silences every logger that exists when it starts."""
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(cache_dir=None))"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.mark.service
def test_the_contracts_about_imports_hold() -> None:
    result = lint_imports(REPOSITORY)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in result.stdout


@pytest.mark.service
def test_the_contracts_can_be_broken(tmp_path: Path) -> None:
    """A package of the same names with the imports that are forbidden breaks every contract."""
    (tmp_path / "pyproject.toml").write_text((REPOSITORY / "pyproject.toml").read_text())
    modules = {
        **{f"toygan/{name}.py": "" for name in MODULES},
        **{f"toygan/{name}/__init__.py": "" for name in ROOMS},
        "catalog_schemas/__init__.py": "import toygan\nimport torch",
        "toygan/__init__.py": "",
        "toygan/storage/__init__.py": "",
        "toygan/storage/s3.py": "import boto3\nimport botocore",
        "toygan/storage/store.py": "import boto3",
        "toygan/artifact/backbone_weights.py": "",
        "toygan/artifact/__init__.py": "import toygan.training",
        "toygan/training/__init__.py": "import toygan.interchange",
        "toygan/interchange/__init__.py": "import toygan.artifact",
        "toygan/models/__init__.py": "import toygan.storage.store",
        "toygan/interchange/keras_model.py": "import keras\nimport tensorflow\nimport onnxscript",
        "toygan/uris.py": "import prefect\nimport keras",
        "flows/__init__.py": "import boto3",
    }
    for name, text in modules.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"0 kept, {len(CONTRACTS)} broken" in result.stdout


def test_the_top_level_holds_what_it_should_and_nothing_else(tracked: list[str]) -> None:
    top = {path.split("/")[0] for path in tracked}
    assert {entry for entry in top if not entry.startswith(".")} == TOP_LEVEL
    assert ".ci" in top


def test_files_functions_and_parameter_lists_are_short() -> None:
    """The options of a command of `toygan` count as its command line, not as parameters."""
    found = []
    for package in ("catalog_schemas", "toygan", "flows"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            text = path.read_text()
            name = path.relative_to(REPOSITORY).as_posix()
            if (lines := len(text.splitlines())) > LONGEST_FILE:
                found.append(f"{name} has {lines} lines")
            found += [
                f"{name}: {problem}" for node in ast.walk(ast.parse(text)) for problem in too_long(node)
            ]
    assert found == []


def too_long(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    if node.end_lineno is not None and (lines := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
        yield f"{node.name} has {lines} lines"
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs) if each.arg != "self"]
    is_command = any("option" in ast.unparse(each) for each in node.decorator_list)
    if len(names) > MOST_PARAMETERS and not is_command:
        yield f"{node.name} has {len(names)} parameters"


def test_no_file_names_a_package_registry(tracked: list[str]) -> None:
    found = [
        f"{path}: {host}"
        for path in tracked
        if (REPOSITORY / path).is_file()
        for data in [(REPOSITORY / path).read_bytes().lower()]
        for host in REGISTRY_HOSTS
        if host.encode() in data
    ]
    assert found == []


def test_every_requirement_is_pinned_and_every_pin_fits(constraints: dict[str, str]) -> None:
    for requirement in requirements():
        name = str(canonicalize_name(requirement.name))
        assert name in constraints, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(constraints[name]), (
            f"{requirement}: pinned is {constraints[name]}"
        )


@pytest.mark.service
def test_a_wheel_holds_every_file_of_the_packages(tracked: list[str], tmp_path: Path) -> None:
    packages = ("catalog_schemas/", "flows/", "toygan/")
    source = [path for path in tracked if path.startswith(packages) or "/" not in path]
    for path in source:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, tmp_path / path)
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, check=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert {path for path in source if path.startswith(packages)} - packed == set()
    assert any(name.endswith("licenses/NOTICE") for name in packed)


@pytest.mark.service
def test_packages_are_light_to_import() -> None:
    """The command line imports these before it knows what it is asked for."""
    packages = [
        ".".join(init.parent.relative_to(REPOSITORY).parts)
        for root in ("catalog_schemas", "toygan", "flows")
        for init in sorted((REPOSITORY / root).rglob("__init__.py"))
    ]
    light = [*packages, "toygan.device", "toygan.errors", "toygan.seeds", "toygan.training.config"]
    heavy = {
        "torch",
        "torchvision",
        "pandas",
        "pyarrow",
        "sklearn",
        "skimage",
        "prefect",
        "boto3",
        "pydantic",
    }
    code = f"import sys; [__import__(name) for name in {light}]; print(*({heavy} & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []
