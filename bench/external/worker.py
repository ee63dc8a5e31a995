"""Delta Lake, SlateDB and DuckDB as their users install them: a process that bench/external/python.ts talks to.

A line of JSON on stdin asks, a line of JSON on stdout answers. Times are of the refresh alone: imports, this protocol
and the event loop's start are not in it. Every refresh opens the table, the store and its connections anew.
"""

import asyncio
import glob
import io
import json
import sys
import time
import urllib.request
import warnings

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import slatedb.uniffi as sl
from deltalake import DeltaTable, WriterProperties, write_deltalake

warnings.filterwarnings("ignore", category=DeprecationWarning)
# Of the command that is being answered.
BUCKET = ""
ROWS_AT_ONCE = 10_000


def plain(table):
    """Times as numbers, columns in one order, no metadata: what all rivals' rows are compared as."""
    columns = {}
    for name in sorted(table.column_names):
        column = table[name]
        kind = column.type
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
        elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            column = column.cast(pa.string())
        columns[name] = column.combine_chunks()
    return pa.table(columns)


def object_store_config(base):
    """Of the Rust crate object_store, which Delta and SlateDB share: no credentials, another endpoint."""
    key = {"gcs_base_url": base, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    return {"google_service_account_key": json.dumps(key), "allow_http": "true"}


class Delta:
    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def uri(self):
        return f"gs://{BUCKET}/rival/delta-{'checkpoint' if self.checkpoint else 'commit'}"

    def prepare(self, base, folder):
        table = pa.concat_tables(pq.read_table(file) for file in files(folder))
        options = object_store_config(base)
        properties = WriterProperties(compression="ZSTD", compression_level=3)
        write_deltalake(
            self.uri(), table, partition_by=["org_id"], storage_options=options, writer_properties=properties
        )
        if self.checkpoint:
            DeltaTable(self.uri(), storage_options=options).create_checkpoint()

    async def refresh(self, base, org):
        table = DeltaTable(self.uri(), storage_options=object_store_config(base))
        # Picks files by their partition. `filters` would also look at every row of them again: as many requests, more time.
        return table.to_pyarrow_table(partitions=[("org_id", "=", org)])

    def rows(self, found):
        return found


class SlateDb:
    """Both ways of reading it read the same database, which the first prepares."""

    PATH = "rival/slatedb"

    def __init__(self, replay):
        self.replay = replay

    def store(self, base):
        builder = sl.ObjectStoreBuilder(sl.ObjectStoreType.GCS)
        builder.with_url(f"gs://{BUCKET}")
        for name, value in object_store_config(base).items():
            builder.with_config(name, value)
        return builder.build()

    def prepare(self, base, folder):
        if self.replay:
            asyncio.run(self.load(base, folder))

    async def load(self, base, folder):
        settings = sl.Settings.default()
        settings.set("compression_codec", '"Zstd"')
        builder = sl.DbBuilder(self.PATH, self.store(base))
        builder.with_settings(settings)
        builder.with_sst_block_size(sl.SstBlockSize.BLOCK64_KIB)
        db = await builder.build()
        for file in files(folder):
            rows = plain(pq.read_table(file)).to_pylist()
            for start in range(0, len(rows), ROWS_AT_ONCE):
                batch = sl.WriteBatch()
                for row in rows[start : start + ROWS_AT_ONCE]:
                    batch.put(f"{row['org_id']}/{row['run_id']}".encode(), json.dumps(row).encode())
                await db.write(batch)
        # Then nothing is left in the write-ahead log to be replayed.
        await db.flush_with_options(sl.FlushOptions(flush_type=sl.FlushType.MEM_TABLE))
        await db.shutdown()

    async def refresh(self, base, org):
        builder = sl.DbReaderBuilder(self.PATH, self.store(base))
        # Creates no checkpoint: a managed one would cost an open a write.
        builder.with_reader_mode(sl.ReaderMode.FOLLOW_LATEST())
        builder.with_options(
            sl.ReaderOptions(
                manifest_poll_interval_ms=600_000,
                checkpoint_lifetime_ms=1_800_000,
                max_memtable_bytes=64 * 1024 * 1024,
                skip_wal_replay=not self.replay,
            )
        )
        reader = await builder.build()
        everything = sl.KeyRange(start=None, start_inclusive=True, end=None, end_inclusive=False)
        options = sl.ScanOptions(
            durability_filter=sl.DurabilityLevel.REMOTE,
            dirty=False,
            read_ahead_bytes=16 * 1024 * 1024,
            cache_blocks=False,
            max_fetch_tasks=16,
        )
        iterator = await reader.scan_prefix_with_options(f"{org}/".encode(), everything, options)
        rows = []
        while True:
            batch = await iterator.next_batch(ROWS_AT_ONCE)
            rows.extend(batch)
            if len(batch) < ROWS_AT_ONCE:
                break
        self.reader = reader
        return rows

    async def close(self):
        await self.reader.shutdown()

    def rows(self, found):
        return pa.Table.from_pylist([json.loads(row.value) for row in found], schema=SCHEMA)


class DuckDb:
    """One Parquet file per org, as an export of all its rows would leave it."""

    def __init__(self, whole):
        self.whole = whole

    def prepare(self, base, folder):
        table = pq.read_table(f"{folder}/org.parquet")
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd", compression_level=3)
        put(base, "rival/duckdb/org.parquet", file.getvalue())

    async def refresh(self, base, org):
        connection = duckdb.connect()
        if self.whole:
            memory = fsspec.filesystem("memory")
            with urllib.request.urlopen(f"{base}/{BUCKET}/rival/duckdb/org.parquet") as answer:
                memory.pipe("/org.parquet", answer.read())
            connection.register_filesystem(memory)
            source = "read_parquet('memory:///org.parquet')"
        else:
            host = base.removeprefix("http://")
            remote = pafs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=host)
            # Four requests one after the other. A pyarrow dataset over the same file takes eight: it asks what is
            # there, and reads the footer twice.
            file = remote.open_input_file(f"{BUCKET}/rival/duckdb/org.parquet")
            connection.register("org_file", pq.ParquetFile(file, pre_buffer=True).read())
            source = "org_file"
        return connection.sql(f"SELECT * FROM {source} WHERE org_id = $org", params={"org": org}).to_arrow_table()

    def rows(self, found):
        return found


RIVALS = {
    "delta-commit": Delta(False),
    "delta-checkpoint": Delta(True),
    "slatedb": SlateDb(True),
    "slatedb-flushed": SlateDb(False),
    "duckdb": DuckDb(False),
    "duckdb-whole": DuckDb(True),
}
SCHEMA = None


def files(folder):
    return sorted(glob.glob(f"{folder}/*.parquet"))


def put(base, key, body):
    request = urllib.request.Request(f"{base}/{BUCKET}/{key}", data=body, method="PUT")
    with urllib.request.urlopen(request):
        pass


async def refresh(rival, base, org):
    began = time.perf_counter()
    found = await rival.refresh(base, org)
    took = 1_000 * (time.perf_counter() - began)
    if hasattr(rival, "close"):
        await rival.close()
    return found, took


def difference(found, expected):
    """None when both tables hold the same rows, else the first difference."""
    if found.num_rows != expected.num_rows:
        return f"{found.num_rows} rows instead of {expected.num_rows}"
    if found.column_names != expected.column_names:
        return f"columns {found.column_names} instead of {expected.column_names}"
    found, expected = found.sort_by("run_id"), expected.sort_by("run_id")
    for name in expected.column_names:
        if not found[name].equals(expected[name]):
            return f"column {name} differs"
    return None


def answer(asked):
    global BUCKET, SCHEMA
    if asked["do"] == "versions":
        from importlib.metadata import version

        return {name: version(name) for name in ("deltalake", "slatedb", "duckdb", "pyarrow")}
    BUCKET = asked["bucket"]
    rival = RIVALS[asked["rival"]]
    if asked["do"] == "prepare":
        rival.prepare(asked["base"], asked["folder"])
        return None
    found, took = asyncio.run(refresh(rival, asked["base"], asked["org"]))
    if asked["do"] == "refresh":
        return {"ms": took, "rows": len(found)}
    expected = plain(pq.read_table(f"{asked['folder']}/org.parquet"))
    SCHEMA = expected.schema
    return difference(plain(rival.rows(found)), expected)


def main():
    for line in sys.stdin:
        try:
            reply = {"ok": answer(json.loads(line))}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(reply), flush=True)


main()
