"""The requests that docs/sandbox.md shows work as they are, against a running sandbox."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest

from st_pipelines.sandbox.server import Sandbox
from st_pipelines_tests.docs.markdown import blocks, text_of

NOW = datetime(2026, 11, 10, 15, 30, tzinfo=timezone.utc)
EXAMPLES = blocks(text_of("docs/sandbox.md"), "bash")


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="needs curl")
def test_the_first_requests_get_a_token_a_list_a_report_and_a_file(tmp_path: Path) -> None:
    script = "\nprintf '\\0'\n".join(["set -euo pipefail", *EXAMPLES])
    with Sandbox(customers=60, now=NOW) as sandbox:
        done = subprocess.run(
            ["bash", "-c", script],
            env={**os.environ, **sandbox.environment()},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    _, token, listed, report, file = done.stdout.split("\0")
    assert token + file == ""
    jobs = json.loads(listed)
    assert {job["jobStatus"] for job in jobs["data"]} == {"Completed"}
    assert jobs["totalCount"] > len(jobs["data"]) == 2
    rows = json.loads(report)
    assert len(rows["data"]) > 0
    assert len(rows["fields"]) == len(rows["data"][0])
    assert (tmp_path / "image.png").read_bytes().startswith(b"\x89PNG")
