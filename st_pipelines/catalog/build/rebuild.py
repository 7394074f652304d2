"""The command `catalog build`: from documents to the files of a folder."""

from __future__ import annotations

from pathlib import Path

from st_pipelines.catalog import files
from st_pipelines.catalog.build import changes
from st_pipelines.catalog.build.build import build_catalog


def rebuild(documents: Path, folder: Path) -> list[str]:
    """Writes the catalogue of some documents into a folder, whole or not at all.

    Args:
        documents: folder of OpenAPI documents.
        folder: empty, not there yet, or with a catalogue, which is replaced.

    Returns:
        Lines that tell what changed, and which curated facts do not fit the documents.

    Raises:
        ValueError: a document cannot be used, or the folder holds something else.
        OSError: the files cannot be written.
    """
    files.catalogue_files(folder)
    before = files.read(folder)
    misfits: list[str] = []
    built = build_catalog(documents, tell=misfits.append)
    files.write(built, folder)
    return [*changes.between(before, built), *misfits]
