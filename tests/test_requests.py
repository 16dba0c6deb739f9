"""A phase's requests as a table: what Arrow's readers and plain Python find in it is what stands in the log."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import loadgen
import test_formats
from loadgen import _core
from loadgen.errors import ReportError
from loadgen.report import again
from loadgen.session import Request, RequestTable

pytest_plugins = ["surface_fixtures"]

CODED = ("failure", "detail", "finish", "token_source", "stamp_source")


def expected(directory: Path, phase: int) -> list[dict[str, Any]]:
    """Return a phase's rows as ``read_rows`` has them, with names for codes."""
    names = dict(_core.row_columns())
    found = []
    for batch in _core.read_rows(directory):
        columns = {name: values for name, values in test_formats.columns(batch).items() if "." not in name}
        for row in zip(*columns.values(), strict=True):
            fields: dict[str, Any] = dict(zip(columns, row, strict=True))
            for name in CODED:
                fields[name] = (names[name] or [])[fields[name]]
            fields["streamed"] = bool(fields["streamed"])
            if fields["phase"] == phase:
                found.append(fields)
    return found


def of_fixture() -> list[RequestTable]:
    """The two phases of the fixture: among its rows is one of every kind that the format knows."""
    sizes = [sum(1 for _ in expected(test_formats.FIXTURE, phase)) for phase in (0, 1)]
    return [RequestTable(test_formats.FIXTURE, phase, size) for phase, size in enumerate(sizes)]


def test_what_was_never_sent_has_no_node(tmp_path: Path) -> None:
    test_formats.never_sent(tmp_path)
    table = RequestTable(tmp_path, 0, 3)
    assert [request.node for request in table] == [None] * 3
    assert pa.table(table).column("node").to_pylist() == [None] * 3


@pytest.mark.parametrize("phase", [0, 1])
def test_every_reader_finds_what_stands_in_the_log(phase: int) -> None:
    table = of_fixture()[phase]
    rows = expected(test_formats.FIXTURE, phase)
    assert len(rows) == len(table) > 0
    assert [{name: getattr(row, name) for name in row.__struct_fields__} for row in table] == rows
    arrow = pa.table(table)
    arrow.validate(full=True)
    assert arrow.to_pylist() == rows
    assert pl.DataFrame(table).to_dicts() == rows


def test_the_log_holds_nulls_failures_and_both_stamp_sources() -> None:
    rows = [row for phase in (0, 1) for row in expected(test_formats.FIXTURE, phase)]
    assert len(rows) == 40
    assert any(row["first_token_ns"] is None for row in rows)
    assert any(row["first_token_ns"] is not None for row in rows)
    assert len({row["failure"] for row in rows}) > 1
    assert {row["stamp_source"] for row in rows} == {"engine", "python"}


def test_the_columns_have_the_types_that_the_documentation_names() -> None:
    schema = pa.schema(of_fixture()[0])
    assert schema.names == list(Request.__struct_fields__)
    assert schema == pa.table(of_fixture()[0]).schema
    assert schema.field("id").type == pa.uint64()
    assert schema.field("sent_ns").type == pa.uint64()
    assert schema.field("status").type == pa.uint16()
    assert schema.field("tokens_out").type == pa.uint32()
    assert schema.field("streamed").type == pa.bool_()
    for name in CODED:
        assert schema.field(name).type == pa.dictionary(pa.uint8(), pa.string()), name


def test_a_runs_phases_have_their_own_requests(here: Path) -> None:
    result = loadgen.run(
        "mock:?error_rate=0.2", warmup=7, requests=80, concurrency=4, output_tokens=3, max_error_rate=1
    )
    warmup, measured = result.phase("warmup").requests, result.performance.requests
    assert (len(warmup), len(measured)) == (7, 80)
    frame = pl.DataFrame(measured)
    assert frame.height == 80
    good = frame.filter(pl.col("failure") == "none")
    assert good.height == result.performance.counts.ok
    ttft = (good["first_token_ns"] - good["sent_ns"]).sort()
    # Nearest rank, as the report has it.
    assert ttft[-(-good.height // 2) - 1] / 1e6 == pytest.approx(result.performance.ttft.p50)
    assert good["tokens_out"].sum() == result.performance.tokens["output"]
    assert {request.phase for request in warmup} == {0}
    stamps = frame["issued_ns"]
    begun, over = result.performance.start_ns, result.performance.end_ns
    assert begun is not None
    assert over is not None
    assert stamps.is_between(begun, over).all()


def test_a_table_is_read_as_often_as_one_likes_and_in_any_part() -> None:
    table = of_fixture()[0]
    assert pa.table(table) == pa.table(table)
    reader = pa.RecordBatchReader.from_stream(table)
    first = reader.read_next_batch()
    reader.close()
    del reader
    # What was read outlives its stream.
    assert first.num_rows == len(table)
    assert next(iter(table)).id == first.column("id")[0].as_py()
    capsule = table.__arrow_c_stream__()
    del capsule


def test_a_column_taken_out_outlives_its_table() -> None:
    ids = pa.table(of_fixture()[0]).column("failure").combine_chunks()
    assert ids.to_pylist() == [row["failure"] for row in expected(test_formats.FIXTURE, 0)]


def test_a_long_run_comes_in_batches(here: Path) -> None:
    result = loadgen.run("mock:", requests=70_000, concurrency=32, output_tokens=1, stream=False, workers=1)
    reader = pa.RecordBatchReader.from_stream(result.performance.requests)
    sizes = [batch.num_rows for batch in reader]
    assert sum(sizes) == len(result.performance.requests) == 70_000
    assert len(sizes) == 2


def test_a_tokenizers_counts_are_in_the_table(here: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save("tokenizer.json")
    url = "mock:?usage=none&tokens_per_chunk=3"
    result = loadgen.run(url, requests=9, concurrency=2, output_tokens=7, tokenizer="tokenizer.json")
    assert [(row.tokens_out, row.token_source) for row in result.performance.requests] == [(7, "tokenizer")] * 9
    frame = pl.DataFrame(result.performance.requests)
    assert frame["tokens_out"].sum() == result.performance.tokens["output"] == 63
    assert frame["token_source"].unique().to_list() == ["tokenizer"]


def test_a_stored_report_alone_has_numbers_and_no_rows(here: Path) -> None:
    result = loadgen.run("mock:")
    (result.dir / "run.log").unlink()
    stored, _ = again.load(str(result.dir))
    assert len(stored.performance.requests) == 10
    with pytest.raises(ReportError, match=r"can't read the requests of .*No such file"):
        list(stored.performance.requests)
    with pytest.raises(ReportError, match="can't read the requests"):
        pa.table(stored.performance.requests)


def test_a_damaged_log_gives_the_rows_that_are_whole(tmp_path: Path) -> None:
    shutil.copy(test_formats.FIXTURE / "run.log", tmp_path / "run.log")
    data = bytearray((tmp_path / "run.log").read_bytes())
    (tmp_path / "run.log").write_bytes(data[: len(data) * 2 // 3])
    rows = expected(tmp_path, 0)
    assert pa.table(RequestTable(tmp_path, 0, len(rows))).to_pylist() == rows


def test_counts_that_are_none_are_an_error(tmp_path: Path) -> None:
    shutil.copy(test_formats.FIXTURE / "run.log", tmp_path / "run.log")
    (tmp_path / "tokens.bin").write_bytes(b"x" * 13)
    for read in (list, pa.table):
        with pytest.raises(ReportError, match="holds no counts of tokens"):
            read(RequestTable(tmp_path, 0, 1))


def test_a_run_says_where_its_prompts_are_from(here: Path) -> None:
    (here / "mine.jsonl").write_text('{"question": "why?"}\n')
    result = loadgen.run("mock:", dataset="mine.jsonl", seed=5)
    phase = result.performance
    assert phase.dataset is not None
    assert (phase.dataset.name, phase.dataset.samples, phase.seed) == ("mine.jsonl", 1, 5)
    assert phase.dataset.sha256 == phase.report["dataset"]["sha256"]
    assert len(phase.dataset.sha256) == 64
