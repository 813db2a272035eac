"""The plots show the figures of the record."""

import pytest

pytest.importorskip("matplotlib", reason="plots need the extra 'models'")

from benchmarks.core.operations import OPS
from benchmarks.records import plots
from benchmarks.records import record as records
from benchmarks.records.standings import standings
from support.bench_rows import COPY, row, run

SIZES = ("4x16x2048", "25x16x2048", "100x16x2048", "25x64x500", "25x64x512", "25x64x4096", "25x1x2048", "25x256x2048")


def drawn(draw, rows):
    return draw(standings(rows), plots._styles(rows))


def points(ax, label):
    return next(list(zip(*line.get_data(), strict=True)) for line in ax.lines if line.get_label() == label)


def test_scaling_has_a_panel_for_each_axis_and_a_line_for_each_provider():
    rows = run(SIZES)
    figure = drawn(plots.scaling, rows)
    assert [ax.get_xlabel() for ax in figure.axes] == ["T (steps)", "B (batch)", "N (neurons)"]
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "B = 16, N = 2,048", "T = 25, N = 2,048", "T = 25, B = 64",
    ]  # fmt: skip
    time = {(one.provider, one.case): one.ns_per_neuron_step for one in rows}
    for provider in ("cpu", "norse"):
        assert points(figure.axes[0], provider) == [
            (steps, time[provider, f"{steps}x16x2048"]) for steps in (4, 25, 100)
        ]
        assert points(figure.axes[2], provider) == [(n, time[provider, f"25x64x{n}"]) for n in (500, 512, 4096)]
    assert list(figure.axes[2].get_xticks()) == [500, 4096]  # 512 has no room beside 500
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == list(dict.fromkeys(one.provider for one in rows if one.median_ms is not None))
    assert drawn(plots.scaling, run(SIZES[:1])) is None


def test_products_have_no_neurons_to_vary():
    assert drawn(plots.scaling, run(("1600x784x500", "1600x500x500"), ("spike_products_10",))) is None


def test_a_long_heading_ends_before_the_legend():
    longest = max(OPS.values(), key=lambda op: len(op.title)).name
    rows = [row(provider, case=case, op=longest, dtype="bfloat16", device="NVIDIA H100 80GB HBM3")
            for provider in ("cpu", "spikingjelly flexsn compiled") for case in ("25x64x500", "25x64x512")]  # fmt: skip
    for draw in (plots.scaling, plots.roofline):
        figure = drawn(draw, rows)
        figure.draw_without_rendering()
        assert not figure._suptitle.get_window_extent().overlaps(figure.legends[0].get_window_extent())


def test_neurons_are_the_product_of_all_feature_axes():
    figure = drawn(plots.scaling, run(("4x2x3x5x5", "8x2x3x5x5")))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["B = 2, N = 75"]


def test_roofline_shows_the_bandwidths_and_the_copy():
    rows = run(SIZES)
    (ax,) = drawn(plots.roofline, rows).axes
    assert {round(y, 6) for _, y in points(ax, "roof: a copy")} == {COPY}
    expected = sorted((one.bytes_moved / 1e6, one.gb_per_s) for one in rows if one.provider == "cpu")
    assert points(ax, "cpu") == expected
    assert drawn(plots.roofline, [row(gb_per_s=None, share_of_copy=None)]) is None


def test_factors_are_medians_over_the_cases_from_fast_to_slow():
    rows = [
        row(case="4x2x3"), row(), row(case="4x2x9"), row("slow", 9.0), row("fast", 0.5, note="another reset"),
        *(row("middle", ms, case=case) for ms, case in ((2.0, "4x2x3"), (3.0, "25x64x500"), (7.0, "4x2x9"))),
    ]  # fmt: skip
    (ax,) = drawn(plots.factors, rows).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fast *", "middle", "slow"]
    assert [text.get_text().strip() for text in ax.texts] == ["0.500", "3.00", "9.00"]
    # A bar that starts at 1 may have a negative width.
    assert [bar.get_x() + bar.get_width() for bar in ax.patches] == pytest.approx([0.5, 3.0, 9.0])
    assert "see its note" in ax.get_xlabel()
    assert drawn(plots.factors, [row()]) is None


def test_providers_look_different():
    rows = [row(f"provider {i}") for i in range(18)] + [row("cpu"), row("cuda")]
    looks = {tuple(sorted(style.items())) for style in plots._styles(rows).values()}
    assert len(looks) == 20


def test_a_file_for_each_operation_dtype_and_device(tmp_path):
    record = tmp_path / "some.csv"
    rows = [*run(SIZES[:2]), row(op="lif_axon"), row(dtype="bfloat16"), row("loop", 2.0, dtype="bfloat16")]
    left_out = [row(op="conv", mode="forward"), row(op="conv", buffers="fresh")]
    records.append(record, rows + left_out)
    assert {path.name for path in plots.write(record, tmp_path / "plots")} == {
        "lif_bfloat16_roofline.png", "lif_bfloat16_factors.png", "lif_float32_scaling.png", "lif_float32_roofline.png",
        "lif_float32_factors.png", "lif_axon_float32_roofline.png",
    }  # fmt: skip
    assert all(path.stat().st_size > 10_000 for path in (tmp_path / "plots").iterdir())


def test_file_names_have_the_device_if_there_are_several(tmp_path):
    record = tmp_path / "some.csv"
    records.append(record, [row(), row(device="NVIDIA A/B"), row(threads=1)])
    assert [path.name for path in plots.write(record, tmp_path)] == [
        "lif_float32_A-processor_1-thread_roofline.png", "lif_float32_A-processor_2-threads_roofline.png",
        "lif_float32_NVIDIA-A-B_2-threads_roofline.png",
    ]  # fmt: skip
