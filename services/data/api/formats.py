"""One answer in the format that was asked for: JSON, NDJSON, CSV or an Arrow stream."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Any, cast, get_args
from urllib.parse import urlencode

import msgspec
import pyarrow as pa
from pyarrow import csv
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.data.errors import NotAcceptable

JSON, NDJSON, CSV, ARROW = (
    "application/json",
    "application/x-ndjson",
    "text/csv",
    "application/vnd.apache.arrow.stream",
)
LISTED = (JSON, NDJSON, CSV, ARROW)
EVENTS = "text/event-stream"
#: Rows of a piece of a stream.
PIECE = 4096
_ARROW_TYPES = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def negotiated(accept: str, formats: Sequence[str]) -> str:
    """The best of the formats by an Accept header (RFC 9110, 12.5.1). Raises NotAcceptable."""
    if not accept.strip():
        return formats[0]
    best, best_rank = "", (0.0, -1)
    for part in accept.split(","):
        name, *parameters = (one.strip().lower() for one in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        for one in formats:
            # What is named counts more than what is meant by a star.
            rank = (quality, {one: 2, one.split("/")[0] + "/*": 1, "*/*": 0}.get(name, -1))
            if rank[1] >= 0 and quality > 0 and rank > best_rank:
                best, best_rank = one, rank
    if not best:
        raise NotAcceptable(f"Accept: {accept[:100]}: this is given as {', '.join(formats)}")
    return best


def answer(
    content: Any, *, max_age_s: int = 0, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """JSON; `max_age_s` says how long it cannot change."""
    kept = f"private, max-age={max_age_s}" if max_age_s else "no-store"
    return Response(
        msgspec.json.encode(content), status, media_type=JSON, headers={"Cache-Control": kept, **(headers or {})}
    )


def listing(
    request: Request, model: type[BaseModel], items: Sequence[dict[str, Any]], cursor: str | None = None, *,
    max_age_s: int = 0, extra: dict[str, Any] | None = None,
) -> Response:  # fmt: skip
    """A list in the format that was asked for; the cursor of what follows is a Link too (RFC 8288).

    `extra` stands in JSON beside the items, in the place of a cursor.
    """
    kind = negotiated(request.headers.get("accept", ""), LISTED)
    headers = {"Cache-Control": f"private, max-age={max_age_s}" if max_age_s else "no-store", "Vary": "Accept"}
    if cursor is not None:
        asked = {**dict(request.query_params), "cursor": cursor}
        headers["Link"] = f'<{request.url.path}?{urlencode(asked)}>; rel="next"'
    if kind == JSON:
        whole = {"items": items, **({"next": cursor} if extra is None else extra)}
        return Response(msgspec.json.encode(whole), media_type=JSON, headers=headers)
    if kind == NDJSON:
        return Response(
            b"".join(msgspec.json.encode(one) + b"\n" for one in items), media_type=NDJSON, headers=headers
        )
    table = to_arrow(model, items)
    if kind == CSV:
        return Response(to_csv(table), media_type=f"{CSV}; charset=utf-8", headers=headers)
    return StreamingResponse(arrow_pieces(table), media_type=ARROW, headers=headers)


@cache
def arrow_schema(model: type[BaseModel]) -> Any:
    """The columns of a model's fields."""
    fields = []
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not NoneType]
        kind = field.annotation if getattr(field.annotation, "__origin__", None) in {list, dict} else kinds[0]
        if getattr(kind, "__origin__", None) is list:
            column = pa.list_(_ARROW_TYPES[get_args(kind)[0]])
        elif getattr(kind, "__origin__", None) is dict:
            column = pa.map_(pa.string(), _ARROW_TYPES[get_args(kind)[1]])
        else:
            column = _ARROW_TYPES[cast("type", kind)]
        fields.append(pa.field(name, column))
    return pa.schema(fields)


def to_arrow(model: type[BaseModel], items: Sequence[dict[str, Any]]) -> Any:
    """Items as a table with the columns of a model's fields."""
    schema = arrow_schema(model)
    rows = [
        {k: list(v.items()) if isinstance(v, dict) else v for k, v in one.items() if k in schema.names}
        for one in items
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def to_csv(table: Any) -> bytes:
    """With a header; lists are joined by spaces, maps as name=value."""
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_list(field.type):
            told = [None if v is None else " ".join(map(str, v)) for v in column.to_pylist()]
            columns.append(pa.array(told, pa.string()))
        elif pa.types.is_map(field.type):
            told = [None if v is None else " ".join(f"{k}={x!r}" for k, x in v) for v in column.to_pylist()]
            columns.append(pa.array(told, pa.string()))
        else:
            columns.append(column)
    file = io.BytesIO()
    csv.write_csv(pa.table(columns, names=table.schema.names), file)
    return file.getvalue()


def arrow_pieces(table: Any) -> Iterator[bytes]:
    """An IPC stream, a piece at a time."""
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=PIECE):
            writer.write_batch(batch)
            yield file.getvalue()
            file.seek(0)
            file.truncate()
    yield file.getvalue()
