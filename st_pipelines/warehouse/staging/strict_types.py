"""Decides whether a record can be staged as it came: the types that `read_json` reads losslessly.

msgspec checks them in C. What it refuses is not wrong: `conform` then takes the record apart. What
it accepts although DuckDB does not, such as a `t` in a timestamp or two members of one name, costs
its page a second attempt (`typed_rows`). Both accept only what `grammar` says.
"""

from __future__ import annotations

import datetime
import functools
from typing import Annotated, Any

import msgspec

from st_pipelines.catalog.model import DataType, Field, ListOf, Scalar, StructOf
from st_pipelines.warehouse.staging import grammar


class _Date:
    """The msgspec type of a `date` that `grammar.is_date` accepts."""


_BigInt: Any = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_NumberText: Any = Annotated[str, msgspec.Meta(pattern=rf"\A{grammar.NUMBER}\Z")]
_SCALARS: dict[str, Any] = {
    "BIGINT": _BigInt | None,
    "DECIMAL": _NumberText | int | float | None,
    "DOUBLE": float | None,
    "BOOLEAN": bool | None,
    "VARCHAR": str | None,
    "TIMESTAMPTZ": datetime.datetime | None,
    "DATE": _Date | None,
    "JSON": msgspec.Raw,
}


@functools.lru_cache(maxsize=1024)
def build_decoder(fields: tuple[Field, ...]) -> msgspec.json.Decoder[Any]:
    """Returns a decoder that fails on a record that does not match the fields."""
    record = _strict_type(StructOf(fields), "record")
    return msgspec.json.Decoder(record, dec_hook=_decode_date)


def _decode_date(type_: type, value: Any) -> Any:
    if grammar.is_date(value):
        return _Date()
    raise ValueError("not a date")


def _strict_type(type_: DataType, name: str) -> Any:
    match type_:
        case Scalar(scalar):
            return _SCALARS[scalar]
        case ListOf(item):
            return list[_strict_type(item, name)] | None
        case StructOf(fields):
            members = [_strict_member(f, f"{name}_{i}", i) for i, f in enumerate(fields)]
            rename = {f"m{i}": f.name for i, f in enumerate(fields)}
            struct = msgspec.defstruct(
                name, members, forbid_unknown_fields=True, rename=rename, gc=False
            )
            return struct if name == "record" else struct | None


def _strict_member(field_: Field, name: str, index: int) -> tuple[str, Any, Any]:
    default = msgspec.Raw() if field_.type == Scalar("JSON") else None
    return (f"m{index}", _strict_type(field_.type, name), default)
