"""A wheel needs no checkout: the demo's config and model are in it, and its commands work."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, as an installation would place them."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, timeout=HUNG, cwd=folder)
    (wheel,) = folder.glob("seal_pipeline-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {
            *("flows", "tasks", "storage", "seal_core"),
            f"{wheel.name.partition('-py3')[0]}.dist-info",
        }
        archive.extractall(folder / "site")
    return folder / "site"


def seal(site: Path, *arguments: str) -> str:
    start = f"import sys; sys.path.insert(0, {str(site)!r}); from flows.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", start, *arguments],
        cwd=site.parent,
        capture_output=True,
        text=True,
        timeout=HUNG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_work_without_a_checkout(site: Path) -> None:
    config = seal(site, "demo", "--config").strip()
    assert Path(config).is_relative_to(site)
    assert "900 self-edits" in seal(site, "estimate", config)
    assert Path(seal(site, "minilm", "path").strip()).is_relative_to(site)
    assert (site / "flows/report/page.html.j2").is_file()
    assert (site / "storage/sql/queries/best_edits.sql").is_file()
