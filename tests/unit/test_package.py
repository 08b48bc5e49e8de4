"""The package is whole: what it declares, pins, exports and ships agrees with what is there."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import llmos

ROOT = Path(__file__).resolve().parents[2]
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the text at apache.org/licenses/LICENSE-2.0.txt."""


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


PROJECT = pyproject()["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(file: str) -> dict[str, Requirement]:
    """The requirements of a file itself, without those it includes."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonicalize_name(one.name): one for one in found}


def declared(*lists: list[str]) -> dict[str, Requirement]:
    found = [Requirement(text) for texts in lists for text in texts]
    return {canonicalize_name(one.name): one for one in found if one.name != "llmos"}


# ------------------------------------------------------------------------------------------------ requirements


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("requirements.txt", declared(PROJECT["dependencies"])),
        ("requirements-dev.txt", declared(EXTRAS["providers"], EXTRAS["dev"])),
    ],
)
def test_requirements_pin_what_the_project_declares(file: str, expected: dict[str, Requirement]) -> None:
    pinned = pins(file)
    assert set(pinned) == set(expected)
    for name, requirement in pinned.items():
        (pin,) = requirement.specifier
        assert pin.operator == "==", f"{requirement} is no pin"
        assert pin.version in expected[name].specifier, f"{requirement} is outside {expected[name]}"
        assert requirement.extras == expected[name].extras


def test_the_constraints_pin_the_same() -> None:
    constrained = pins("constraints.txt")
    for name, requirement in (pins("requirements.txt") | pins("requirements-dev.txt")).items():
        assert str(constrained[name].specifier) == str(requirement.specifier), name


def imported() -> dict[str, Path]:
    """The top-level modules that the package imports anywhere, each with one file that does."""
    found: dict[str, Path] = {}
    for path in (ROOT / "llmos").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0]: path for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | {"llmos", "plugins"}}


def test_what_is_imported_is_declared_or_required_by_what_is() -> None:
    own = declared(PROJECT["dependencies"], EXTRAS["providers"])
    brought = {canonicalize_name(Requirement(text).name) for name in own for text in metadata.requires(name) or ()}
    distributions = metadata.packages_distributions()
    for module, path in imported().items():
        names = {canonicalize_name(name) for name in distributions.get(module, [module])}
        assert names & (set(own) | brought), f"{path.relative_to(ROOT)} imports {module}, which nothing declares"


# ------------------------------------------------------------------------------------------------ version and names


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == llmos.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None and newest[1] == llmos.__version__


def module_names() -> list[str]:
    files = sorted((ROOT / "llmos").rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", module_names())
def test_exported_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    assert not [one for one in exported if not hasattr(module, one)]


def test_every_package_folder_is_listed() -> None:
    folders = {str(file.parent.relative_to(ROOT)).replace("/", ".") for file in (ROOT / "llmos").rglob("__init__.py")}
    assert set(pyproject()["tool"]["setuptools"]["packages"]) == folders


def test_the_licence_is_the_apache_licence_verbatim() -> None:
    assert sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    assert PROJECT["license"] == "Apache-2.0"


# ----------------------------------------------------------------------------------------------------------- wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel made from a copy of the sources, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "llmos", folder / "source" / "llmos", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=folder / "source", check=True, capture_output=True, timeout=120
    )
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_every_source_file_and_what_goes_with_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("llmos/")}
    wanted = [*(ROOT / "llmos").rglob("*.py"), *(ROOT / "llmos").rglob("*.yaml"), ROOT / "llmos" / "py.typed"]
    wanted.append(ROOT / "llmos" / "interfaces" / "leash.sh")
    assert packed == {file.relative_to(ROOT).as_posix() for file in wanted}


def test_the_wheel_brings_the_command_and_the_licence(wheel: Path) -> None:
    info = f"llmos-{llmos.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        licence = archive.read(f"{info}/licenses/LICENSE")
        described = archive.read(f"{info}/METADATA").decode()
    assert "llmos = llmos.door:main" in entry_points
    assert sha256(licence).hexdigest() == APACHE_2
    assert "License-Expression: Apache-2.0" in described
    assert re.search(r"^Requires-Python: >=3\.11$", described, re.MULTILINE)


# --------------------------------------------------------------------------------------------------------------- data


def test_the_example_data_is_what_its_description_says() -> None:
    lines = (ROOT / "workspace" / "data.csv").read_text(encoding="utf-8").splitlines()
    described = (ROOT / "workspace" / "README.md").read_text(encoding="utf-8")
    columns = lines[0].split(",")
    assert len(lines) == 151
    assert all(f"| `{column}` |" in described for column in columns)
    assert all("" not in line.split(",") and len(line.split(",")) == len(columns) for line in lines)
    species = [line.rsplit(",", 1)[1] for line in lines[1:]]
    assert {one: species.count(one) for one in set(species)} == {"setosa": 50, "versicolor": 50, "virginica": 50}


@pytest.mark.parametrize("name", ["sales.csv", "march.csv"])
def test_the_made_up_sales_agree_with_their_prices(name: str) -> None:
    price = {"tea": 4.5, "coffee": 7.2, "cocoa": 5.8}
    head, *lines = (ROOT / "workspace" / name).read_text(encoding="utf-8").splitlines()
    assert head == "region,product,month,units,amount"
    for line in lines:
        _, product, _, units, amount = line.split(",")
        assert float(amount) == pytest.approx(int(units) * price[product], abs=0.005)
