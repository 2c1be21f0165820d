"""One embedding table as one Parquet file, with its recipe and a digest of its contents."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache.base.errors import AsdError, is_out_of_memory
from cache.base.text import parse_json
from cache.facts import Facts
from cache.files import bounds, objects, places
from cache.files.atomic import scratch_folder, write_atomic
from cache.recipe import Recipe, from_json
from cache.table import ClipKey, EmbeddingTable, Section

_T = TypeVar("_T")
_RECIPE, _BLOCKS, _DIGEST = b"asd.recipe", b"asd.blocks", b"asd.sha256"
_REMEDY = (
    "move it aside with `python -m cache.run verify --repair` and run the extraction again: only "
    "its clips are made anew"
)
# What a flipped byte makes of pyarrow's reading and of ours; of a length, memory that is not there,
# of brackets, JSON without end.
_DAMAGED = (
    OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError,
    MemoryError, RecursionError, pa.ArrowException, AsdError,
)  # fmt: skip
_SMALLEST = 2**26  # bytes that reading any table may take
_VECTORS = "embedding"
_PLACE_COLUMNS = ("machine_type", "section", "split")
_KEY_COLUMNS = ("clip_id", "content_sha256", "domain", "condition", "attributes")
_FACTS = "facts"  # JSON; no such column where nothing is known of any recording
_TEXT_COLUMNS = ("machine_type", "split", "domain", "condition", "attributes", _FACTS)
_AS_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # made once: a call a clip


def write_table(path: Path, table: EmbeddingTable, recipe: Recipe, over: str | None = None) -> None:
    """Write a table atomically.

    Parameters
    ----------
    path
        The final name.
    table
        (N, D) float32 embeddings and their keys.
    recipe
        How they were made; stands in the schema's metadata.
    over
        See `cache.files.atomic.write_atomic`.
    """
    metadata = {
        _RECIPE: recipe.canonical.encode(),
        _BLOCKS: json.dumps(table.blocks).encode(),
        _DIGEST: _digest(table, recipe).encode(),
    }
    arrow = _to_arrow(table).replace_schema_metadata(metadata)
    data = _written(arrow, "zstd")
    if bounds.allowed(len(data)) < 2 * arrow.nbytes:
        data = _written(arrow, "none")  # so much of the same that readers would refuse it
    write_atomic(path, data, over)


def _written(arrow: pa.Table, compression: str) -> bytes:
    file = pa.BufferOutputStream()
    pq.write_table(
        arrow,
        file,
        compression=compression,
        compression_level=1 if compression == "zstd" else None,
        # Dictionary pages make the vectors half as large again; byte planes compress.
        use_dictionary=list(_TEXT_COLUMNS),
        column_encoding={"embedding.list.element": "BYTE_STREAM_SPLIT"},
        # Without checksums a flipped byte is read back as another number.
        write_page_checksum=True,
    )
    return bytes(file.getvalue().to_pybytes())


def read_table(path: Path) -> tuple[EmbeddingTable, Recipe]:
    """Read a table and check every byte that matters against its digest.

    Parameters
    ----------
    path
        A file of `write_table`.

    Returns
    -------
    table, recipe
        (N, D) float32 embeddings with their keys, and how they were made.

    Raises
    ------
    AsdError
        If the file is missing, damaged, or not an embedding table.
    """
    arrow = _read(path, columns=None)
    metadata = arrow.schema.metadata or {}
    try:
        recipe = from_json(metadata[_RECIPE].decode())
        table = _from_arrow(arrow, parse_json(metadata[_BLOCKS]))
        stored = metadata[_DIGEST].decode()
    except _DAMAGED as error:
        raise _fault(path, error, "is not an embedding table") from error
    if stored != _digest(table, recipe):
        raise AsdError(f"{path} is damaged: its contents do not match their SHA-256; {_REMEDY}")
    return table, recipe


def read_blocks(path: Path, rows: int) -> Iterator[tuple[EmbeddingTable, Recipe]]:
    """Read a table a few rows at a time; that its bytes are not what was written shows at the end.

    Parameters
    ----------
    path
        A file of `write_table`.
    rows
        Most of one part.

    Yields
    ------
    table, recipe
        Consecutive rows, as `read_table` gives them all.

    Raises
    ------
    AsdError
        As `read_table`, as late as after the last part: nothing may be published before.
    """
    try:
        with _near(path) as near, pa.OSFile(str(near)) as source:
            arrow = bounds.read_parquet(source, source.size(), [*_PLACE_COLUMNS, *_KEY_COLUMNS, _FACTS])
            metadata, keys = arrow.schema.metadata or {}, _keys(arrow)
            recipe = from_json(metadata[_RECIPE].decode())
            blocks = {name: (start, stop) for name, (start, stop) in parse_json(metadata[_BLOCKS]).items()}
            machine_type, number, split = (arrow[name][0].as_py() for name in _PLACE_COLUMNS)
            section, done = Section(machine_type, number), 0
            digest = _begun(recipe, section, split, blocks, keys)
            source.seek(0)
            for part in bounds.read_column(source, source.size(), _VECTORS, rows):
                vectors = part.flatten().to_numpy(zero_copy_only=False).reshape(len(part), -1)
                digest.update(np.ascontiguousarray(vectors).data)
                own = keys[done : done + len(part)]
                yield EmbeddingTable(section, split, own, vectors, blocks), recipe
                done += len(part)
            is_whole = digest.hexdigest() == metadata[_DIGEST].decode()
    except objects.Unreachable:
        raise
    except _DAMAGED as error:
        raise _fault(path, error, "is not an embedding table") from error
    if not is_whole:
        raise AsdError(f"{path} is damaged: its contents do not match their SHA-256; {_REMEDY}")


def read_recipe(path: Path) -> tuple[Recipe, int]:
    """Read only how a table was made and how many rows it has, from the footer.

    Raises
    ------
    AsdError
        If the file is damaged or not an embedding table.
    """
    return _footer(path, lambda footer: (from_json(footer.metadata[_RECIPE].decode()), int(footer.num_rows)))


def read_digest(path: Path) -> str:
    """Read only the SHA-256 of all that a table holds, from the footer.

    Raises
    ------
    AsdError
        If the file is damaged or not an embedding table.
    """
    return _footer(path, lambda footer: str(footer.metadata[_DIGEST].decode()))


def read_keys(path: Path) -> tuple[ClipKey, ...]:
    """Read the key columns only, leaving the vectors on disk.

    Raises
    ------
    AsdError
        If the file is missing or damaged.
    """
    arrow = _read(path, columns=[*_KEY_COLUMNS, _FACTS])
    try:
        return _keys(arrow)
    except _DAMAGED as error:
        raise _fault(path, error, "is damaged") from error


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    def read(source: Any) -> pa.Table:
        return bounds.read_parquet(source, source.size(), columns)

    try:
        if columns is None and places.is_remote(path):
            return read(pa.BufferReader(objects.fetch(path)))
        return _in_ranges(path, read)
    except objects.Unreachable:
        raise
    except _DAMAGED as error:
        raise _fault(path, error, "is damaged") from error


def _footer(path: Path, read: Callable[[pq.FileMetaData], _T]) -> _T:
    try:
        return _in_ranges(path, lambda source: read(pq.read_metadata(source)))
    except objects.Unreachable:
        raise  # the table may well be whole
    except _DAMAGED as error:
        raise _fault(path, error, "is not an embedding table") from error


def _in_ranges(path: Path, read: Callable[[Any], _T]) -> _T:
    """Let pyarrow read a file of this machine or an object, of that only the ranges it asks for."""
    if places.is_remote(path):
        return objects.in_ranges(path, read)
    with pa.OSFile(str(path)) as file:
        return read(file)


@contextmanager
def _near(path: Path) -> Iterator[Path]:
    """Give a file of this machine: of an object a copy, for a while, since a table may be large."""
    if not places.is_remote(path):
        yield path
        return
    with scratch_folder() as folder:
        objects.copy(path, folder / path.name)
        yield folder / path.name


def _fault(path: Path, error: Exception, text: str) -> Exception:
    """Choose what to raise: a whole table that memory does not hold is not called damaged."""
    if is_out_of_memory(error) and _is_scarce(path):
        return MemoryError(f"reading {path}: {error}")
    if isinstance(error, FileNotFoundError):
        return AsdError(f"{path} does not exist; run the extraction first")
    if isinstance(error, OSError) and error.errno not in (None, errno.EISDIR):
        return objects.Unreachable(
            f"{path} cannot be read: {error.strerror}; that says nothing of what it holds: see to "
            "the permissions and the disk, and run the same command again"
        )
    is_plain = isinstance(error, OSError | pa.ArrowException | AsdError)
    reason = str(error) if is_plain else repr(error)
    return AsdError(f"{path} {text} ({reason}); {_REMEDY}")


def _is_scarce(path: Path) -> bool:
    """Whether memory is short for a table like this; a damaged length asks for far more."""
    try:
        size = 0 if places.is_remote(path) else path.stat().st_size
        bytearray(_SMALLEST + 8 * size)
        Thread(target=int).start()
    except (MemoryError, RuntimeError, OSError):
        return True
    return False


def _to_arrow(table: EmbeddingTable) -> pa.Table:
    values = pa.array(np.ascontiguousarray(table.embeddings).reshape(-1))
    element = pa.field("element", pa.float32(), nullable=False)
    vectors = pa.FixedSizeListArray.from_arrays(values, type=pa.list_(element, table.width))
    count, keys = len(table), table.keys
    columns = {
        "clip_id": pa.array([k.clip_id for k in keys], pa.string()),
        "machine_type": pa.array([table.section.machine_type] * count, pa.string()),
        "section": pa.array([table.section.number] * count, pa.int32()),
        "split": pa.array([table.split] * count, pa.string()),
        "domain": pa.array([k.domain for k in keys], pa.string()),
        "condition": pa.array([k.condition for k in keys], pa.string()),
        "attributes": pa.array([_attributes(k) for k in keys], pa.string()),
        "content_sha256": pa.array([k.content_sha256 for k in keys], pa.string()),
        "embedding": vectors,
    }
    if any(k.facts for k in keys):
        columns[_FACTS] = pa.array([_facts(k) for k in keys], pa.string())
    optional = {"domain", "condition", _FACTS}
    fields = [pa.field(n, column.type, nullable=n in optional) for n, column in columns.items()]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _from_arrow(arrow: pa.Table, blocks: Mapping[str, list[int]]) -> EmbeddingTable:
    # flatten() respects a slice's offset, .values does not.
    vectors = arrow["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return EmbeddingTable(
        section=Section(arrow["machine_type"][0].as_py(), arrow["section"][0].as_py()),
        split=arrow["split"][0].as_py(),
        keys=_keys(arrow),
        embeddings=vectors.reshape(len(arrow), -1),
        blocks={name: (start, stop) for name, (start, stop) in blocks.items()},
    )


def _keys(arrow: pa.Table) -> tuple[ClipKey, ...]:
    columns = [arrow[name].to_pylist() for name in _KEY_COLUMNS]
    told = {text: parse_json(text) for text in arrow["attributes"].unique().to_pylist()}
    texts = arrow[_FACTS].to_pylist() if _FACTS in arrow.column_names else [None] * len(arrow)
    facts = {text: Facts(**parse_json(text)) if text else None for text in set(texts)}
    return tuple(
        ClipKey(clip_id, sha256, domain, condition, told[attributes], facts[text])
        for clip_id, sha256, domain, condition, attributes, text in zip(*columns, texts, strict=True)
    )


def _facts(key: ClipKey) -> str | None:
    return None if key.facts is None else _AS_JSON.encode(key.facts.plain())


def _attributes(key: ClipKey) -> str:
    return _AS_JSON.encode(dict(key.attributes or {}))


def _digest(table: EmbeddingTable, recipe: Recipe) -> str:
    """SHA-256 over all that is stored: a damaged footer is not covered by page checksums."""
    digest = _begun(recipe, table.section, table.split, table.blocks, table.keys)
    digest.update(np.ascontiguousarray(table.embeddings).data)
    return digest.hexdigest()


def _begun(
    recipe: Recipe,
    section: Section,
    split: str,
    blocks: Mapping[str, tuple[int, int]],
    keys: Sequence[ClipKey],
) -> hashlib._Hash:
    """Begin the digest with everything but the vectors."""
    rows: list[list[str | None]] = [
        [k.clip_id, k.content_sha256, k.domain, k.condition, _attributes(k)] for k in keys
    ]
    if any(k.facts for k in keys):  # as it was without, where nothing is known
        rows = [[*row, _facts(key)] for row, key in zip(rows, keys, strict=True)]
    text = json.dumps([recipe.canonical, str(section), split, blocks, rows])
    return hashlib.sha256(text.encode())
