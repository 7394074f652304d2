"""Loads, reconciles and verifies every endpoint through Prism, which judges all requests.

Prism, a mock server for OpenAPI, stands as a validating proxy between st_pipelines and the sandbox.
It writes down each deviation from the vendor's documents; an unknown path fails the load. The
documents are read from `../shared/openapi` or `--documents`; `st-pipelines catalog fetch DIR`
downloads them. Needs Node; `npx` installs Prism. Exits with 1 after any violation by a request, or
by a response that `EXPECTED` does not explain.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from server import Server

import st_pipelines
from st_pipelines.sync.strategies import strategy_for

PRISM = "@stoplight/prism-cli@5"
DOCUMENTS = Path(__file__).parents[2] / "shared" / "openapi"
_METHODS = ("get", "post", "put", "patch", "delete")
_LINE = re.compile(r"Violation: (?P<place>request|response)\S* (?P<text>.*)")
EXPECTED = (
    (
        "dates: clients have seen 2025-10-13T00:00:00 where the documents declare a date",
        re.compile(r'must match format "date"'),
    ),
    (
        "durations: clients have seen 00:00:37, as .NET writes them; Prism wants ISO 8601",
        re.compile(r'must match format "duration"'),
    ),
    (
        "odd values that real responses held, see docs/sandbox.md",
        re.compile(
            r"landedCostMethod must |serialNumbers must be array|data\.N\.type must be "
            r"|(returnOnInvestment|Rate) must be number"
        ),
    ),
)
"""Why the sandbox deviates from the documents on purpose, and the messages about that."""

HISTORY_DAYS = 7  # loaded by days; a load from the start date on has everything older too


def main() -> int:
    options = _options()
    if not options.documents.is_dir():
        print(
            f"no documents in {options.documents}: st-pipelines catalog fetch DIR", file=sys.stderr
        )
        return 2
    with Server(options.customers) as server, tempfile.TemporaryDirectory() as folder:
        merged, log = Path(folder) / "merged.json", Path(folder) / "prism.log"
        upstream = server.environment["SERVICETITAN_API_URL"]
        document = merge_documents(options.documents)
        merged.write_text(json.dumps(document), encoding="utf-8")
        with run_prism(options.prism, merged, upstream, log) as url:
            failures = read_everything({**server.environment, "SERVICETITAN_API_URL": url}, folder)
        requests, violations, responses = read_log(log)
    print(f"{requests} requests, {len(violations)} violations of requests")
    print_counts(violations)
    expected, unexplained = sort_responses(responses)
    print(f"{expected.total()} expected violations of responses by the sandbox")
    print_counts(expected)
    print(f"{unexplained.total()} others")
    print_counts(unexplained)
    for text in failures:
        print(text)
    return 1 if violations or unexplained or failures else 0


def print_counts(counts: Counter[str]) -> None:
    """Prints the most common texts."""
    for text, count in counts.most_common(20):
        print(f"  {count} x {text}")


def sort_responses(found: Counter[str]) -> tuple[Counter[str], Counter[str]]:
    """Counts the violations by responses: the expected ones by reason, the others by message."""
    expected, unexplained = Counter(), Counter()
    for text, count in found.items():
        reasons = (reason for reason, pattern in EXPECTED if pattern.search(text))
        reason = next(reasons, None)
        if reason is None:
            unexplained[text] += count
        else:
            expected[reason] += count
    return expected, unexplained


def merge_documents(folder: Path) -> dict[str, Any]:
    """Returns one document with the operations of all, as they are below one host.

    Schemas of the same name differ between documents, so each gets the document's name.
    """
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for file in sorted(folder.glob("*.json")):
        text = file.read_text(encoding="utf-8")
        prefix = f"{file.stem}."
        text = text.replace('"#/components/schemas/', f'"#/components/schemas/{prefix}')
        document = json.loads(text)
        base = urlsplit(document["servers"][0]["url"]).path
        for path, item in document["paths"].items():
            paths[base + path] = {m: _trim(o) for m, o in item.items() if m in _METHODS}
        for name, schema in document["components"]["schemas"].items():
            schemas[prefix + name] = schema
    return {
        "openapi": "3.1.0",
        "info": {"title": "All APIs", "version": "2"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _trim(operation: dict[str, Any]) -> dict[str, Any]:
    """Leaves authorization to the sandbox: Prism knows no token."""
    return {name: part for name, part in operation.items() if name != "security"}


@contextmanager
def run_prism(command: str | None, document: Path, upstream: str, log: Path) -> Iterator[str]:
    """Runs the proxy, and yields its address.

    Args:
        command: of an installed Prism; None installs it with npx.
        document: what it validates by.
        upstream: where it sends the requests.
        log: the file for what it prints.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [command] if command else [shutil.which("npx") or "npx", "--yes", PRISM]
    arguments = ["proxy", str(document), upstream, "--port", str(port), "--host", "127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*program, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            # npx leaves Prism running when it is ended alone.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.2)
    raise ChildProcessError(f"Prism did not start: {log.read_text(encoding='utf-8')[-500:]}")


def read_everything(environment: dict[str, str], folder: str) -> list[str]:
    """Loads, reconciles and verifies each endpoint. Returns what failed.

    Args:
        environment: settings of a connection.
        folder: where the warehouse is written.
    """
    os.environ.update(environment)
    os.chdir(folder)
    failures = []
    today = datetime.now(ZoneInfo(environment["SERVICETITAN_TIMEZONE"])).date()
    days = (today - timedelta(days=HISTORY_DAYS), today)
    os.environ["SERVICETITAN_START_DATE"] = days[0].isoformat()
    with st_pipelines.connect("production") as session:
        for endpoint in session.context.catalog:
            partitioned = strategy_for(endpoint).partitioned
            try:
                session.load(endpoint.table, *(days if partitioned else ()))
                session.reconcile(endpoint.table)
                session.verify(endpoint.table, deep=True)
            except (st_pipelines.ServiceTitanError, st_pipelines.WarehouseError) as error:
                failures.append(f"{endpoint.table}: {error}")
    print(f"{len(session.context.catalog)} endpoints read, {len(failures)} failed")
    return failures


def read_log(log: Path) -> tuple[int, Counter[str], Counter[str]]:
    """Returns the number of requests, and the violations by requests and by responses.

    The numbers in a message, which are positions of records, are left out.
    """
    requests = 0
    found: dict[str, Counter[str]] = {"request": Counter(), "response": Counter()}
    for line in log.read_text(encoding="utf-8").splitlines():
        requests += "Request received" in line
        match = _LINE.search(line)
        if match:
            found[match["place"]][re.sub(r"\.\d+\b", ".N", match["text"])] += 1
    return requests, found["request"], found["response"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--documents", type=Path, default=DOCUMENTS, help="OpenAPI documents")
    parser.add_argument("--customers", type=int, default=20, help="size of the company")
    parser.add_argument("--prism", metavar="COMMAND", help="an installed Prism, instead of npx")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
