"""How much a file may hold beside its size: looked at before memory is taken for what it claims."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.base.errors import AsdError

# Compressed, vectors of recordings take more than half of their size, and keys a third of theirs;
# of silence alone it may be far less, so that small files may come to what they like.
MOST = 2**28  # bytes that a file of any size may come to
RATIO = 100  # times its size that a larger one may
_ROW = 512  # bytes of Python objects that a row of keys takes
_OFFSET = 4  # bytes of a text's place in a column
# Rows of texts that are decoded at once: a prefix shared by all is written out in each.
_READ = 2**20  # bytes of a column that are read at once where it is read in parts
_AT_ONCE, _LEAST_ROWS, _MOST_ROWS = 2**30, 2**8, 2**16


def allowed(size: int) -> int:
    """Bytes that a file of so many bytes may come to."""
    return max(MOST, RATIO * size)


def check(claimed: int, size: int) -> None:
    """Refuse what would take far more memory than a file of its size.

    Parameters
    ----------
    claimed
        Bytes that it says, or is seen, to come to.
    size
        Bytes of the file.

    Raises
    ------
    AsdError
        If that is more than `allowed`.
    """
    if claimed > allowed(size):
        raise AsdError(
            f"its {size:,} bytes come to {claimed:,} when they are read, {allowed(size):,} are "
            f"allowed (at least {MOST >> 20} MiB, else {RATIO} times the file)"
        )


def read_parquet(source: Any, size: int, columns: Collection[str] | None = None) -> pa.Table:
    """Read a Parquet file that may claim to hold more than memory does.

    The footer's claims are held against the file's size first. Numbers cannot come to more than it
    says, but a text written once may stand in any number of rows, so texts are decoded a few rows
    at a time, and counted.

    Parameters
    ----------
    source
        What `pyarrow.parquet.ParquetFile` takes.
    size
        Bytes of the file.
    columns
        Their names; ``None`` for all.

    Returns
    -------
    pyarrow.Table
        The columns in the file's order, texts plain however they were encoded.

    Raises
    ------
    AsdError
        If it comes to more than `allowed`.
    OSError, ValueError, pyarrow.ArrowException
        If it is no Parquet file or damaged; page checksums are verified.
    """
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        names = [name for name in schema.names if columns is None or name in columns]
        total, plain = _claimed(file)
        check(max(total, plain) + rows * _ROW, size)
        fixed = [name for name in names if _is_fixed(schema.field(name).type)]
        read = file.read(columns=fixed)
    texts = [name for name in names if name not in fixed]
    found = {name: read[name].chunks for name in fixed}
    if texts:
        step = min(max(_AT_ONCE // max(total - plain, 1), _LEAST_ROWS), _MOST_ROWS)
        source.seek(0)
        kind_of = {name: schema.field(name).type for name in texts}
        coded = [n for n, kind in kind_of.items() if pa.types.is_string(kind) or pa.types.is_binary(kind)]
        with pq.ParquetFile(source, read_dictionary=coded, page_checksum_verification=True) as file:
            found |= _decoded(file.iter_batches(batch_size=step, columns=texts), texts, size)
    kinds = {name: schema.field(name).type for name in names}
    kinds = {n: kind.value_type if pa.types.is_dictionary(kind) else kind for n, kind in kinds.items()}
    arrays = [pa.chunked_array(found[name], type=kinds[name]) for name in names]
    fields = [schema.field(name).with_type(kinds[name]) for name in names]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, schema.metadata))


def read_column(source: Any, size: int, column: str, rows: int) -> Iterator[pa.Array]:
    """Read a column of numbers so many rows at a time, without the others and never all of it.

    Parameters
    ----------
    source, size
        As of `read_parquet`, whose errors it raises too.
    column
        Its name.
    rows
        Most of one part.
    """
    options = {"page_checksum_verification": True, "buffer_size": _READ, "pre_buffer": False}
    with pq.ParquetFile(source, **options) as file:
        check(max(_claimed(file)) + file.metadata.num_rows * _ROW, size)
        for batch in file.iter_batches(batch_size=rows, columns=[column], use_threads=False):
            yield batch.column(0)


def _claimed(file: pq.ParquetFile) -> tuple[int, int]:
    """Bytes that a file says it comes to, and those that its rows take at least."""
    schema, metadata = file.schema_arrow, file.metadata
    # Not of each column: of a damaged one pyarrow's answer may be to end the process.
    groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    width = sum(_width(schema.field(name).type) for name in schema.names)
    return sum(size for size in groups if size > 0), metadata.num_rows * width


def read_npz(data: bytes) -> dict[str, NDArray[Any]]:
    """Read a NumPy archive whose members may claim any size; nothing is unpickled.

    Raises
    ------
    AsdError
        If it comes to more than `allowed`.
    ValueError, zipfile.BadZipFile
        If it is no archive, or a member is not as long as its header says.
    """
    with ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        check(sum(member.file_size for member in members), len(data))
        for member in members:
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                header = _HEADERS.get(version)
                if header is None:
                    raise BadZipFile(f"{member.filename}: NumPy format {version} is unknown")
                shape, _, dtype = header(file)
                if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
                    raise BadZipFile(f"{member.filename} is not as long as its header says: {shape}")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


_HEADERS: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _width(kind: pa.DataType) -> int:
    """Bytes that a value takes at least, in any row."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    return (int(kind.bit_width) + 7) // 8 if _is_fixed(kind) else _OFFSET


def _is_fixed(kind: pa.DataType) -> bool:
    """Whether a value takes the same bytes in every row."""
    if pa.types.is_fixed_size_list(kind):
        return _is_fixed(kind.value_type)
    return bool(pa.types.is_primitive(kind))


def _decoded(
    batches: Iterable[pa.RecordBatch], names: Collection[str], size: int
) -> dict[str, list[pa.Array]]:
    """Columns in parts, texts plain; counted before a text is written out in each of its rows."""
    import pyarrow.compute as pc  # noqa: PLC0415 -- a tenth of a second, which a help page need not take

    found: dict[str, list[pa.Array]] = {name: [] for name in names}
    total = 0
    for batch in batches:
        for name in names:
            part = batch.column(name)
            if pa.types.is_dictionary(part.type):
                lengths = pc.take(pc.binary_length(part.dictionary), part.indices)
                check(total + (pc.sum(lengths).as_py() or 0), size)
                part = part.dictionary_decode()
            total += part.nbytes
            found[name].append(part)
        check(total, size)
    return found
