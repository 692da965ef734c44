"""The ledger keeps every whole row, whoever else writes and whatever breaks."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnopt_lab import ledger as ledger_module
from nnopt_lab.ledger import Ledger, Row, default_path, measure_row, pareto_front
from nnopt_lab.measuring import Latency, accuracy_interval, bytes_on_disk
from nnopt_lab.models import ResNet, count
from nnopt_lab.training import evaluate

ROW = Row(
    lesson=3,
    name="ResNet-20 <b>",
    data="stand-in (not CIFAR-10)",
    accuracy=0.9,
    accuracy_low=0.89,
    accuracy_high=0.91,
    parameters=272_474,
    nonzero_parameters=272_474,
    bytes_on_disk=1_107_440,
    macs=41_000_000,
    latency_ms=12.5,
    batch_size=100,
    seed=0,
)


def test_rows_come_back_as_they_were(tmp_path):
    ledger = Ledger(tmp_path / "deep" / "ledger.jsonl")
    assert ledger.rows() == []
    assert str(ledger.table()) == "The ledger is empty."
    rows = [ROW, replace(ROW, name="中文 “x”\nline", latency_ms=None, seed=None, note="n")]
    for row in rows:
        ledger.append(row)
    assert Ledger(tmp_path / "deep" / "ledger.jsonl").rows() == rows
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", ROW.when)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": 91.0}, "accuracy is 91.0"),
        ({"accuracy": float("nan")}, "accuracy is nan"),
        ({"parameters": -1}, "parameters is -1"),
        ({"latency_ms": 0}, "latency_ms is 0"),
        ({"name": 7}, "name is 7, but it must be a text"),
        ({"seed": 1.5}, "seed is 1.5"),
    ],
)
def test_rows_that_cannot_be_right_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(ROW, **changes)


APPEND = """
import os, sys
os.fsync = lambda descriptor: None  # the disk's own pace is not what is tested
from nnopt_lab.ledger import Ledger, Row
ledger = Ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    ledger.append(Row(lesson=1, name=f"{sys.argv[2]} {number} " + "x" * 3000, data="d", accuracy=0.5, accuracy_low=0.4,
        accuracy_high=0.6, parameters=1, nonzero_parameters=1, bytes_on_disk=1, macs=1))
"""


def test_two_kernels_append_and_no_row_is_lost(tmp_path):
    path = tmp_path / "ledger.jsonl"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    names = [row.name.split(" x")[0] for row in Ledger(path).rows()]
    assert len(names) == 400
    assert [name for name in names if name[0] == "a"] == [f"a {number}" for number in range(200)]
    assert [name for name in names if name[0] == "b"] == [f"b {number}" for number in range(200)]


def test_a_line_cut_off_by_a_crash_is_told_and_costs_no_other(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(ROW)
    with ledger.path.open("ab") as file:
        file.write(b'{"lesson": 3, "name": "cut o')
    with pytest.warns(UserWarning, match="Line 2 of .*ledger.jsonl' is not a whole row"):
        assert ledger.rows() == [ROW]
    ledger.append(replace(ROW, seed=1))
    with pytest.warns(UserWarning, match="Line 2"):
        assert [row.seed for row in ledger.rows()] == [0, 1]


@given(st.binary(max_size=60))
def test_no_line_whatsoever_breaks_the_ledger(tmp_path_factory, garbage):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.jsonl")
    ledger.append(ROW)
    with ledger.path.open("ab") as file:
        file.write(garbage.replace(b"\n", b"").replace(b"\r", b""))
    ledger.append(ROW)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ledger.rows()[0] == ROW
        assert ledger.rows()[-1] == ROW


def test_a_newer_version_may_have_more_fields(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(ROW)
    ledger.path.write_text(ledger.path.read_text().replace('{"lesson"', '{"energy_j": 3, "lesson"'))
    assert ledger.rows() == [ROW]


def test_clearing_keeps_a_copy(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.clear()
    ledger.append(ROW)
    ledger.clear()
    assert ledger.rows() == []
    assert Ledger(tmp_path / "ledger.jsonl.old").rows() == [ROW]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write the ledger .*ledger.jsonl: .*; set NNOPT_LAB_LEDGER"):
        Ledger(tmp_path / "file" / "ledger.jsonl").append(ROW)


def test_a_disk_that_fills_up_leaves_whole_rows(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(ROW)
    before = ledger.path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger_module.os, "fsync", full)
    with pytest.raises(OSError, match="ledger.jsonl: No space left on device"):
        ledger.append(replace(ROW, seed=1))
    assert ledger.path.read_bytes() == before


def test_where_the_ledger_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("NNOPT_LAB_LEDGER", str(tmp_path / "mine.jsonl"))
    assert default_path() == Ledger().path == tmp_path / "mine.jsonl"
    monkeypatch.delenv("NNOPT_LAB_LEDGER")
    assert default_path().parts[-2:] == ("data", "ledger.jsonl")
    monkeypatch.setenv("NNOPT_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(ledger_module.os, "access", lambda path, mode: False)
    assert default_path() == tmp_path / "ledger.jsonl"


def test_the_table_is_aligned_and_escaped(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(ROW)
    ledger.append(replace(ROW, name="x", latency_ms=None, seed=None))
    lines = str(ledger.table()).splitlines()
    assert "90.0% (89.0–91.0)" in lines[1]
    assert "272,474" in lines[1]
    assert "12.5 ms / 100 on cpu" in lines[1]
    assert len({line.index("stand-in") for line in lines[1:]}) == 1
    page = ledger.table()._repr_html_()
    assert "ResNet-20 &lt;b&gt;" in page
    assert page.count("<tr>") == 3


TIMED_BEFORE = Latency(7.0, 6.0, 8.0, repeats=5, batch_size=8, device="elsewhere", threads=1)


def test_a_measured_row_is_what_was_measured(tiny_data):
    model = ResNet(depth=8, width=8, num_classes=4)
    row = measure_row(model, tiny_data, name="tiny", lesson=3, seed=5, note="n", repeats=2)
    assert row.accuracy == evaluate(model, tiny_data, tiny_data.test).accuracy
    assert (row.accuracy_low, row.accuracy_high) == accuracy_interval(round(40 * row.accuracy), 40)
    assert row.parameters == count(model).parameters
    assert row.macs == count(model).macs
    assert row.bytes_on_disk == bytes_on_disk(model)
    assert row.batch_size == 40  # there are no more test pictures
    assert row.latency_ms > 0
    assert (row.lesson, row.name, row.data, row.seed, row.note) == (3, "tiny", tiny_data.label, 5, "n")
    few = measure_row(model, tiny_data, name="tiny", lesson=3, test_pictures=10, latency=TIMED_BEFORE)
    assert (few.latency_ms, few.batch_size, few.device) == (7.0, 8, "elsewhere")
    assert few.accuracy_high - few.accuracy_low > row.accuracy_high - row.accuracy_low


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=12))
def test_the_front_is_what_nothing_beats(points):
    rows = [replace(ROW, bytes_on_disk=cost, accuracy=gain / 10) for cost, gain in points]
    front = pareto_front(rows)
    on_front = {(row.bytes_on_disk, row.accuracy) for row in front}
    for row in rows:
        beaten = any(
            other.bytes_on_disk <= row.bytes_on_disk
            and other.accuracy >= row.accuracy
            and (other.bytes_on_disk, other.accuracy) != (row.bytes_on_disk, row.accuracy)
            for other in rows
        )
        assert ((row.bytes_on_disk, row.accuracy) in on_front) != beaten
    with pytest.raises(ValueError, match="cost is 'byte'"):
        pareto_front(rows, cost="byte")


def test_the_ledger_is_drawn_with_intervals_and_names():
    from nnopt_lab.plotting.ledger import draw_ledger

    rows = [ROW, replace(ROW, name="small", bytes_on_disk=1000, accuracy=0.895), replace(ROW, data="CIFAR-10")]
    ax = draw_ledger(rows, front=pareto_front(rows))
    assert {text.get_text() for text in ax.texts} == {"ResNet-20 <b>", "small"}
    assert [text.get_text() for text in ax.get_legend().get_texts()][-2:] != []
    assert {container.get_label() for container in ax.containers} == {"stand-in (not CIFAR-10)", "CIFAR-10"}
    assert ax.get_xscale() == "log"
    assert draw_ledger([], x="macs").get_xlabel() == "multiply–accumulates per picture"
    assert len(draw_ledger([replace(ROW, latency_ms=None)], x="latency_ms").texts) == 0
