"""Files that are replaced at once, so that what fails on the way leaves them as they were."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def replace_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes files into a folder, in order; none is replaced before all are on the disk.

    Args:
        folder: is made where it is not there.
        texts: by the file's name.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}
    try:
        for name, text in texts.items():
            descriptor, beside = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
            written[name] = Path(beside)
            _fill(descriptor, text)
            written[name].chmod(_mode(folder / name))
        for name, beside in written.items():
            os.replace(beside, folder / name)
    except BaseException:
        for beside in written.values():
            beside.unlink(missing_ok=True)
        raise


def _fill(descriptor: int, text: str) -> None:
    with open(descriptor, "w", encoding="utf-8") as beside:
        beside.write(text)
        beside.flush()
        os.fsync(beside.fileno())


def _mode(file: Path) -> int:
    return file.stat().st_mode & 0o777 if file.exists() else 0o644
