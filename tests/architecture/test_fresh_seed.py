"""What `make test` prints as its fresh seed is what its workers run."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTES_ITS_SEED = """
from pathlib import Path

def test_seed(fresh_seed, worker_id):
    Path(__file__).with_name(f"{worker_id}.seed").write_text(str(fresh_seed))
"""


def test_every_worker_runs_the_seed_that_is_printed(tmp_path: Path) -> None:
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(NOTES_ITS_SEED)
    options = ["-n", "2", "--dist", "each", "-p", "tests.fresh", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    printed = re.findall(r"^fresh seed: (\d+)$", out, re.MULTILINE)
    assert len(printed) == 1
    assert [path.read_text() for path in tmp_path.glob("*.seed")] == printed * 2
