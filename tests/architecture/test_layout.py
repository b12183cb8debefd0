"""The house's layout: what stands where, and what nobody may write."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(p.name for p in (ROOT / "services").iterdir() if p.is_dir())
VOCABULARY = {"encoding", "__init__", "__main__", "settings", "core", "stages", "adapters", "api", "wiring", "errors"}
SOURCES = ["libs", "services", "cli"]


def tracked() -> Iterator[Path]:
    """Every text file that the repository holds."""
    git = shutil.which("git")
    assert git
    names = subprocess.run([git, "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    for path in (ROOT / name for name in names):
        if path.is_file() and path.suffix not in {".png", ".parquet", ".ico", ".woff2"}:
            yield path


def test_there_are_seven_services() -> None:
    expected = ["feature", "ingest", "monitor", "predictor", "registry", "retrain-controller", "trainer"]
    assert expected == SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_uses_the_common_file_names(service: str) -> None:
    package = ROOT / "services" / service / "src" / "trimtab" / service.replace("-", "_")
    names = {p.stem for p in package.iterdir() if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")}
    assert {"__main__", "settings", "core", "stages", "wiring"} <= names
    assert names <= VOCABULARY | {"migrations"}
    assert (ROOT / "services" / service / "README.md").is_file()


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_environment_holds_no_other_service(service: str) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".tools/bin"))
    assert uv, "make installs uv into .tools/"
    command = [
        uv,
        "export",
        "--quiet",
        "--package",
        f"trimtab-{service}",
        "--no-hashes",
        "--no-header",
        "--no-annotate",
    ]
    export = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    members = set(re.findall(r"\./(?:services|cli)[^\s;]*", export))
    assert members == {f"./services/{service}"}


def test_no_module_is_longer_than_it_should_be() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in SOURCES
        for path in (ROOT / folder).rglob("src/**/*.py")
        if "_generated" not in path.parts
    }
    assert {name: n for name, n in lengths.items() if n > 450} == {}


def test_topics_are_named_only_in_the_contracts() -> None:
    control = {p.stem for p in (ROOT / "schemas" / "topics").glob("*.yaml") if "{" not in p.stem and "." in p.stem}
    assert control
    spelled = re.compile("|".join(rf"[\"']{re.escape(name)}[\"']" for name in sorted(control)))
    found = [str(p) for p in (ROOT / "services").rglob("src/**/*.py") if spelled.search(p.read_text())]
    assert found == []


FORBIDDEN = {
    "a package registry's host": re.compile(
        r"py" + r"pi\.org|python" + r"hosted|repo1?\.ma" + r"ven|registry\.np" + r"mjs|maven" + r"central",
        re.IGNORECASE,
    ),
    "a machine's path": re.compile(r"/wo" + r"rk/|/ro" + r"ot/|/ho" + r"me/(?!trimtab)[a-z]+/"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    found = [str(p.relative_to(ROOT)) for p in tracked() if FORBIDDEN[what].search(p.read_text(errors="ignore"))]
    assert found == []


def test_pins_cover_what_members_ask_for() -> None:
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = {re.split(r"[=\s\[;]", pin, maxsplit=1)[0] for pin in root["tool"]["uv"]["constraint-dependencies"]}
    for path in [
        *ROOT.glob("libs/*/pyproject.toml"),
        *ROOT.glob("services/*/pyproject.toml"),
        ROOT / "cli/pyproject.toml",
    ]:
        asked = tomllib.loads(path.read_text())["project"]["dependencies"]
        names = {re.split(r"[>=<\s\[;]", a, maxsplit=1)[0] for a in asked}
        missing = {n for n in names if not n.startswith("trimtab") and n not in pinned}
        assert missing == set(), f"{path}: run `make pins`"
