"""`constraints.txt` gives an install that `setup.cfg` allows."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CHECKOUT = Path(__file__).parents[1]
VULNERABLE = {
    "requests": "2.32.3",  # CVE-2024-47081: .netrc credentials sent to another host
    "urllib3": "2.6.2",  # CVE-2026-21441: unbounded decompression of redirects
    "starlette": "0.49.0",  # CVE-2025-62727: quadratic time to parse a Range header
    "h11": "0.15.0",  # CVE-2025-43859: request smuggling by chunked encoding
}
"""The last vulnerable version of each."""


def read_requirements() -> dict[str, Requirement]:
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg")
    extras = config["options.extras_require"]
    texts = [config["options"]["install_requires"], *(extras[name] for name in extras)]
    found = [Requirement(line) for text in texts for line in text.split("\n") if line.strip()]
    return {canonicalize_name(one.name): one for one in found if one.name != "st_pipelines"}


def read_pins() -> dict[str, Version]:
    lines = (CHECKOUT / "constraints.txt").read_text().split()
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_the_pinned_versions_are_within_the_bounds_of_the_package() -> None:
    pins = read_pins()
    wrong = [
        f"{requirement}: {pins.get(name, 'not pinned')}"
        for name, requirement in read_requirements().items()
        if name not in pins or pins[name] not in requirement.specifier
    ]
    assert wrong == []


@pytest.mark.parametrize("name", VULNERABLE)
def test_a_version_with_a_known_vulnerability_is_not_installed(name: str) -> None:
    assert VULNERABLE[name] not in read_requirements()[name].specifier


def test_the_pins_name_no_host_and_no_path() -> None:
    text = (CHECKOUT / "constraints.txt").read_text()
    assert not [part for part in ("/", "@", "-e ") if part in text]
