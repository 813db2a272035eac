"""``hnn bench compare`` tells a change from the machine's drift."""

import math

import pytest

pytest.importorskip("typer", reason="the command line needs the extra 'models'")

from typer.testing import CliRunner

from benchmarks.records import compare
from benchmarks.records import record as records
from benchmarks.suite.command import app
from support.bench_rows import row

LATER = "2026-11-23T10:00:00"


def moved(before, after):
    """The ratio of each provider, and True if its change is beyond noise."""
    changes = compare.compare(before, after)
    return {change.after.provider: (round(change.ratio, 3), change.beyond_noise) for change in changes}


def slowed(rows, times, *but):
    """``rows`` with ``times`` their times, as on a slower machine; the providers ``but`` are unchanged."""
    columns = ("q25_ms", "median_ms", "q75_ms", "gb_per_s")
    by = {"gb_per_s": 1 / times}
    return [
        one if one.provider in but else one._replace(**{c: getattr(one, c) * by.get(c, times) for c in columns})
        for one in rows
    ]


def test_drift_of_the_machine_is_no_change():
    rows = [row(), row("loop", 8.0), row("sinabs", 5.0)]
    assert moved(rows, slowed(rows, 1.7)) == {"cpu": (1.0, False), "loop": (1.0, False), "sinabs": (1.0, False)}


def test_change_beyond_the_quartiles_is_found_in_both_directions_and_the_largest_is_first():
    before = [row(), row("loop", 8.0), row("sinabs", 5.0), row("norse", 5.0)]
    after = slowed([row(median=1.2), row("loop", 8.0), row("sinabs", 2.5), row("norse", 5.2)], 1.3)
    assert moved(before, after) == {
        "cpu": (1.2, True), "sinabs": (0.5, True), "norse": (1.04, False), "loop": (1.0, False),
    }  # fmt: skip
    assert [c.after.provider for c in compare.compare(before, after)] == ["sinabs", "cpu", "norse", "loop"]
    assert {c.yardsticks for c in compare.compare(before, after)} == {("loop", "copy"), ("copy", "the clock")}


def test_quartiles_that_overlap_or_less_than_five_percent_are_noise():
    loop = row("loop", 8.0)
    wide = {"spread": 0.15}
    assert moved([row(**wide), loop], [row(median=1.2, **wide), loop])["cpu"] == (1.2, False)
    narrow = {"spread": 0.001}
    assert moved([row(**narrow), loop], [row(median=1.04, **narrow), loop])["cpu"] == (1.04, False)
    assert moved([row(**narrow), loop], [row(median=1.06, **narrow), loop])["cpu"] == (1.06, True)
    assert moved([row(**narrow), loop], [row(median=0.97, **narrow), loop])["cpu"] == (0.97, False)


def test_all_yardsticks_must_agree():
    before = [row(), row("loop", 8.0)]
    # Only the loop became slower. By the loop ours is faster, by the copy it is unchanged. Then the other way round.
    assert moved(before, [row(), row("loop", 16.0)]) == {"cpu": (1.0, False), "loop": (2.0, True)}
    half = [one._replace(share_of_copy=one.share_of_copy / 2) for one in before]
    assert moved(before, half) == {"cpu": (1.0, False), "loop": (1.0, False)}
    contrary = [row(median=1.5), row("loop", 16.0)]
    assert moved(before, contrary)["cpu"][1] is False


def test_the_loop_is_compared_by_the_reference():
    before = [row("loop", 8.0), row("reference", 9.0)]
    # The machine is slower, except for the copy, which is in the cache.
    assert moved(before, slowed(before, 1.5)) == {"loop": (1.0, False), "reference": (1.0, False)}
    assert moved(before, [row("loop", 12.0), row("reference", 9.0)])["loop"] == (1.5, True)
    assert moved(before, [row("loop", 12.0), row("reference", 13.5)])["loop"] == (1.0, False)
    # The clock is a yardstick too: the reference and the copy moved, the loop did not.
    after = [row("loop", 8.0), row("reference", 4.5)]
    assert moved(before, [one._replace(share_of_copy=one.share_of_copy / 2) for one in after])["loop"] == (1.0, False)


def test_products_are_compared_by_torch():
    plain = {"op": "spike_products_10", "gb_per_s": None, "share_of_copy": None}
    before = [row(**plain), row("torch", 4.0, **plain)]
    after = [row(median=1.5, **plain), row("torch", 6.0, **plain)]
    assert moved(before, after) == {"cpu": (1.0, False), "torch": (1.5, True)}
    assert moved(before, [row(median=1.5, **plain), before[1]])["cpu"] == (1.5, True)
    assert {change.yardsticks for change in compare.compare(before, before)} == {("torch",), ("the clock",)}


def test_without_a_yardstick_the_times_themselves_are_compared():
    plain = {"gb_per_s": None, "share_of_copy": None}
    (change,) = compare.compare([row(**plain)], [row(median=1.5, **plain)])
    assert (round(change.ratio, 3), change.beyond_noise, change.yardsticks) == (1.5, True, ("the clock",))
    assert "the clock" in compare.markdown([change])


def test_figure_that_is_gone_or_new_is_a_change():
    before = [row(), row("sinabs", 5.0), row("norse", None, buffers="", note="not installed")]
    after = [row(), row("sinabs", None, buffers="", note="out of memory"), row("norse", 5.0)]
    assert moved(before, after) == {"cpu": (1.0, False), "sinabs": (math.inf, True), "norse": (0, True)}
    text = compare.markdown(compare.compare(before, after))
    assert "| sinabs | 5.00 | out of memory | gone |" in text
    assert "| norse | not installed | 5.00 | new |" in text
    assert text.endswith("2 of 3 changed beyond noise.")
    # A measurement of one side only is no change.
    assert moved(before[:2], after[:1]) == {"cpu": (1.0, False)}


def test_slower_returns_the_changes_that_must_fail():
    before = [row(), row("loop", 8.0), row("sinabs", 5.0), row("norse", 5.0), row("snntorch", 5.0)]
    after = [
        row(median=1.15), row("loop", 8.0), row("sinabs", 6.5), row("norse", 2.5),
        row("snntorch", None, buffers="", note="out of memory"),
    ]  # fmt: skip
    changes = compare.compare(before, after)
    assert [change.before.provider for change in compare.slower(changes, 1.2)] == ["snntorch", "sinabs"]
    assert [change.before.provider for change in compare.slower(changes, 1.1)] == ["snntorch", "sinabs", "cpu"]


def test_sides_are_records_runs_or_commits(tmp_path):
    path = tmp_path / "some.csv"
    first, second = row(commit="aaaaaaa"), row(median=2.0, run=LATER, commit="bbbbbbb")
    records.append(path, [first, second])
    assert compare.select(str(path)) == [first, second]
    assert compare.select(f"{path}@{LATER}") == compare.select(f"{path}@bbbbbbb") == [second]
    with pytest.raises(ValueError, match=r"no run or commit 'ccccccc'; its runs: .*aaaaaaa.*bbbbbbb"):
        compare.select(f"{path}@ccccccc")
    with pytest.raises(FileNotFoundError):
        compare.select(str(tmp_path / "none.csv"))


def test_sides_that_cannot_be_compared_are_errors():
    with pytest.raises(ValueError, match="after must be of one device"):
        compare.compare([row()], [row(), row(threads=1)])
    with pytest.raises(ValueError, match="on both sides"):
        compare.compare([row()], [row(op="lif_axon")])


def test_command_exits_with_1_only_for_times_slower_than_allowed(tmp_path):
    path = tmp_path / "some.csv"
    records.append(path, [row(), row("loop", 8.0), row(median=1.5, run=LATER), row("loop", 8.0, run=LATER)])

    def exit_code(*options):
        return (
            CliRunner().invoke(app, ["compare", f"{path}@2026-11-22T10:00:00", f"{path}@{LATER}", *options]).exit_code
        )

    assert exit_code() == exit_code("--fail-above", "1.6") == 0
    assert exit_code("--fail-above", "1.4") == 1
