"""Lists the kinds of files that ServiceTitan serves: where their ids come from, how to read them.

A new kind is an entry of `FILE_KINDS`. All facts are from ServiceTitan's OpenAPI documents, which
say little about files: an operation takes the id of a record, or a `path` that records hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

SCHEMA = "files"
"""The schema of the tables of stored files; their asset keys have it after the environment."""

_GENERIC = ("", "application/octet-stream", "binary/octet-stream", "application/binary")


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """A table whose rows point to files.

    Attributes:
        table: such as `pricebook.services`.
        references: what says which files a row has, as `column`, `column.member`, `column[]` or
            `column[].member`. A row without any of them has none. Empty if each row is a file.
        id: the column that identifies a row.
        time: the column that orders the rows; by default that of the table's days.
    """

    table: str
    references: tuple[str, ...] = ()
    id: str = "id"
    time: str = ""


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """One kind of file: one asset, one folder and one table.

    Attributes:
        name: of the asset, the folder and the table.
        title: what the files are, in the plural, for people.
        path: of the operation below the host. `{id}` in it stands for the id of the source's row;
            without it the reference is sent as the query parameter `path`.
        scope: OAuth scope that the operation needs.
        sources: the tables whose rows point to the files; of one file that several rows point to,
            one copy is stored.
        prefix: how a reference begins that the operation takes; "" for all that are no URL.
        media: how the media types of these files begin; empty if they may have any. What has no
            telling type is accepted always.
    """

    name: str
    title: str
    path: str
    scope: str
    sources: tuple[FileSource, ...]
    prefix: str = ""
    media: tuple[str, ...] = ()

    @cached_property
    def table(self) -> str:
        """The table of the stored files, such as `files.recordings`."""
        return f"{SCHEMA}.{self.name}"

    @cached_property
    def api(self) -> str:
        """The API of the operation, which is that of the scope."""
        first = self.path.split("/")[1]
        return {"equipmentsystems": "equipment_systems"}.get(first, first)

    @cached_property
    def by_id(self) -> bool:
        """Whether the operation takes an id, and not a path."""
        return "{id}" in self.path

    def accepts(self, media_type: str) -> bool:
        """Whether a file of this kind may have a media type, given in small letters."""
        return not self.media or media_type in _GENERIC or media_type.startswith(self.media)


_ASSETS = ("assets[].url",)
_SKU_ASSETS = (*_ASSETS, "default_asset_url")

FILE_KINDS: Mapping[str, FileKind] = {
    kind.name: kind
    for kind in (
        FileKind(
            name="recordings",
            title="call recordings",
            path="/telecom/v2/tenant/{tenant}/calls/{id}/recording",
            scope="tn.tlc.calls:r",
            sources=(FileSource(table="telecom.calls", references=("lead_call.recording_url",)),),
            media=("audio/", "video/"),
        ),
        FileKind(
            name="voicemails",
            title="voicemails",
            path="/telecom/v2/tenant/{tenant}/calls/{id}/voicemail",
            scope="tn.tlc.calls:r",
            sources=(FileSource(table="telecom.calls", references=("lead_call.voice_mail_url",)),),
            media=("audio/", "video/"),
        ),
        FileKind(
            name="pricebook_images",
            title="price-book images",
            path="/pricebook/v2/tenant/{tenant}/images",
            scope="tn.pb.images:r",
            sources=(
                FileSource(table="pricebook.categories", references=("image", "sku_images[]")),
                FileSource(table="pricebook.services", references=_SKU_ASSETS),
                FileSource(table="pricebook.materials", references=_SKU_ASSETS),
                FileSource(table="pricebook.equipment", references=_SKU_ASSETS),
                FileSource(table="pricebook.discounts_and_fees", references=_ASSETS),
            ),
            prefix="Images/",  # vendor: the path is case sensitive and begins so
            media=("image/", "video/", "application/pdf"),
        ),
        FileKind(
            name="equipment_attachments",
            title="attachments of installed equipment",
            path="/equipmentsystems/v2/tenant/{tenant}/installed-equipment/attachments",
            scope="tn.eqs.installedequipment:r",
            sources=(
                FileSource(
                    table="equipment_systems.installed_equipment_details",
                    references=("attachments[].url",),
                    time="modified_on",
                ),
            ),
        ),
        FileKind(
            name="finding_attachments",
            title="attachments of findings",
            path="/findings/v2/tenant/{tenant}/assets",
            scope="tn.fdgs.assets:r",
            sources=(
                FileSource(table="findings.location_findings_attachments", references=("url",)),
                FileSource(
                    table="findings.location_findings_details",
                    references=("attachments[].url",),
                    time="modified_on",
                ),
            ),
        ),
        FileKind(
            name="job_attachments",
            title="attachments of jobs",
            path="/forms/v2/tenant/{tenant}/jobs/attachment/{id}",
            scope="tn.frm.jobs:r",
            sources=(FileSource(table="forms.jobs_attachments", time="created_on"),),
        ),
    )
}
"""The kinds by name."""
