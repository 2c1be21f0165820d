"""Files that claim to hold more than memory does are refused before it is taken."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache.base.errors import AsdError
from cache.files.bounds import MOST, allowed, read_npz, read_parquet
from cache.parquet import read_keys, read_table, write_table
from cache.store import Store
from cache.upkeep import verify
from index.knn import NearestNeighbours
from tests.conftest import make_recipe, make_table

ROWS = 600_000


def table_of(path: Path, **columns: pa.Array) -> Path:
    """A file with the metadata of an embedding table, and these columns in place of its own."""
    whole = Store(path).write(make_table(np.ones((1, 8))), make_recipe())
    arrow = pq.read_table(whole)
    rows = pa.array(np.zeros(len(next(iter(columns.values()))), dtype=np.int64))
    made = {name: columns.get(name, arrow[name].combine_chunks().take(rows)) for name in arrow.column_names}
    pq.write_table(pa.table(made).replace_schema_metadata(arrow.schema.metadata), whole)
    return whole


def peak(call: Callable[[], object]) -> int:
    """Bytes of memory that a call takes at most, of Arrow's and of Python's."""
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    try:
        with pytest.raises(AsdError, match=r"come to [\d,]+ when they are read"):
            call()
        return tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before
    finally:
        tracemalloc.stop()


def test_a_table_of_more_rows_than_its_size_holds_is_refused_unread(tmp_path: Path) -> None:
    path = table_of(tmp_path, section=pa.array(np.zeros(ROWS, dtype=np.int32)))
    assert path.stat().st_size < 2**20
    for read in (read_table, read_keys):
        assert peak(lambda read=read: read(path)) < 2**24
    (_, fault), *_ = verify(Store(tmp_path))
    assert "verify --repair" in str(fault)


def test_a_text_that_stands_in_every_row_is_counted_before_it_is_written_out(
    tmp_path: Path,
) -> None:
    texts = pa.array(["x" * 2**14] * 20_000)  # 312 MiB in a few kB
    path = table_of(tmp_path, attributes=texts)
    del texts
    assert path.stat().st_size < 2**20
    assert peak(lambda: read_keys(path)) < MOST


def test_silence_alone_is_written_so_that_it_can_be_read(tmp_path: Path) -> None:
    table = make_table(np.zeros((10, 2**16)))
    path = tmp_path / "train.parquet"
    write_table(path, table, make_recipe())
    small = path.stat().st_size
    assert small < table.embeddings.nbytes / 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cache.files.bounds.MOST", 2**16)
        with pytest.raises(AsdError, match="come to"):
            read_table(path)
        write_table(path, table, make_recipe())
        assert path.stat().st_size > table.embeddings.nbytes
        np.testing.assert_array_equal(read_table(path)[0].embeddings, table.embeddings)


def test_columns_come_back_as_arrow_reads_them(tmp_path: Path) -> None:
    made = pa.table(
        {
            "n": pa.array([1, None, 3], pa.int16()),
            "text": pa.array(["a", None, "a"]),
            "category": pa.array(["u", "v", "u"]).dictionary_encode(),
            "lists": pa.array([[1.0], [], None], pa.list_(pa.float32())),
            "pairs": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2)),
            "money": pa.array([1, 2, 3]).cast(pa.decimal128(30, 2)),
            "at": pa.array([0, 1, 2], pa.timestamp("us")),
        }
    )
    path = tmp_path / "any.parquet"
    pq.write_table(made, path, row_group_size=2)
    for columns in (None, ["text", "n"], ["pairs"]):
        with pa.OSFile(str(path)) as file:
            read = read_parquet(file, file.size(), columns)
        expected = pq.read_table(path, columns=columns)
        assert set(read.column_names) == set(expected.column_names)
        for name in read.column_names:
            assert read[name].to_pylist() == expected[name].to_pylist()


def archive(compression: int, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    told = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, told)
    return buffer.getvalue()


def test_archives_of_arrays() -> None:
    buffer = io.BytesIO()
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.empty(0), "c": np.array(["x", "yz"])}
    np.savez(buffer, **arrays)
    read = read_npz(buffer.getvalue())
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    bomb = archive(zipfile.ZIP_DEFLATED, a=header((2**26,)) + bytes(2**29))
    assert allowed(len(bomb)) == MOST
    assert peak(lambda: read_npz(bomb)) < 2**22
    with pytest.raises(zipfile.BadZipFile, match="not as long as its header says"):
        read_npz(archive(zipfile.ZIP_STORED, a=header((2**40,)) + bytes(8)))
    with pytest.raises(ValueError, match="magic string"):
        read_npz(archive(zipfile.ZIP_STORED, a=b"x"))


@pytest.mark.parametrize("kind", ["exact", "inverted"])
def test_an_index_that_claims_more_vectors_than_it_has_is_refused(kind: str) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2000, 8)).astype(np.float32)
    data = NearestNeighbours(points, kind, recall=0.5).to_bytes()  # type: ignore[arg-type]
    assert len(NearestNeighbours.from_bytes(data)) == 2000
    count = struct.pack("<q", 2000)
    claims = bytearray(data)
    at = claims.find(count)
    claims[at : at + 8] = struct.pack("<q", 2**40)
    with pytest.raises(AsdError, match=r"FAISS index"):
        NearestNeighbours.from_bytes(bytes(claims))
    words = struct.pack("<Q", 2000 * 8)  # 4-byte words of a flat index's vectors
    if kind == "exact":
        claims = bytearray(data)
        at = claims.find(words)
        claims[at : at + 8] = struct.pack("<Q", 2**36)
        with pytest.raises(AsdError, match=r"not a FAISS index"):
            NearestNeighbours.from_bytes(bytes(claims))
    assert isinstance(faiss.get_deserialization_vector_byte_limit(), int)


def test_json_without_end_in_a_table_is_a_fault_of_that_table(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(make_table(np.ones((2, 8))), make_recipe())
    store.write(make_table(np.ones((2, 8)), split="test"), make_recipe())
    arrow = pq.read_table(path)
    for deep in (b"[" * 100_000, json.dumps({"backbone": "x"}).encode()):
        metadata = {**arrow.schema.metadata, b"asd.recipe": deep}
        pq.write_table(arrow.replace_schema_metadata(metadata), path)
        assert [fault is None for _, fault in verify(store)] == [True, False]
