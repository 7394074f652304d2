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
    "requests": "2.32.5",  # CVE-2026-25645: files with predictable names in the folder for all
    "urllib3": "2.6.3",  # GHSA-qccp-gfcp-xxvc, GHSA-mf9v-mfxr-j63j: redirects, decompression
    "starlette": "1.3.0",  # CVE-2026-54283: form data; CVE-2026-48710: the header Host
    "h11": "0.15.0",  # CVE-2025-43859: request smuggling by chunked encoding
    "pyjwt": "2.12.1",  # GHSA-w7vc-732c-9m39: work that an unsigned token causes
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
