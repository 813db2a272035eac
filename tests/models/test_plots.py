"""The plots show what the network did."""

import pytest

pytest.importorskip("matplotlib", reason="plots need the extra 'models'")

import torch

from hnn_models.analysis import plots
from hnn_models.network.activity import activity
from hnn_models.paper import plots as table_plots
from hnn_models.paper.authors_curve import CELL, POINTS
from support.looped_network import make
from support.paper_cells import CELLS, row


@pytest.fixture
def network():
    return make("A4C3-S9C3-P2-S6-S5", (1, 9, 8), steps=7)


def panels(figure):
    """The panels of the layers; the first is the image."""
    return figure.axes[1:]


def test_raster_has_a_dot_for_each_spike_of_a_layer_that_is_shown_whole(network):
    network, images = network
    works = list(activity(network, images[:1]))
    axes = panels(plots.raster(network, images[0]))
    assert [ax.get_title(loc="left").split(":")[0] for ax in axes] == ["S9C3 (9x5x4)", "S6 (6)", "S5 (5)"]
    for ax, work in zip(axes, works, strict=True):
        dots = {(int(step), int(neuron)) for step, neuron in ax.collections[0].get_offsets()}
        spikes = {(t + 1, i) for t, i in work.spikes.flatten(1).nonzero().tolist()}
        assert dots == spikes
        assert spikes


def test_raster_shows_some_of_many_neurons(network, monkeypatch):
    network, images = network
    monkeypatch.setattr(plots, "_RASTER_NEURONS", 5)
    first, second, _ = panels(plots.raster(network, images[0]))
    assert first.get_ylabel() == "neuron (5 of 180)"
    assert second.get_ylabel() == "neuron (5 of 6)"
    assert first.collections[0].get_offsets()[:, 1].max() <= 4


def test_membranes_reach_the_threshold_where_they_spike(network):
    network, images = network
    for ax in panels(plots.membranes(network, images[0])):
        *lines, threshold = ax.lines
        assert set(threshold.get_ydata()) == {1.0}
        for trace, dots in zip(lines[::2], lines[1::2], strict=True):
            above = [(x, y) for x, y in zip(*trace.get_data(), strict=True) if y >= 1]
            assert above == list(zip(*dots.get_data(), strict=True))
        assert len(lines[1].get_xdata()) > 0


def test_accuracy_against_energy():
    points = [plots.Point("S5", 0.5, 2e3), plots.Point("A5-S5", 0.75, 4e3, 1e3)]
    figure = plots.accuracy_against_energy(points)
    marks = {
        (line.get_xdata()[0], line.get_ydata()[0], line.get_fillstyle())
        for line in figure.axes[0].lines
        if line.get_marker() == "o"
    }
    assert marks == {(2, 50, "full"), (4, 75, "full"), (5, 75, "none")}
    with pytest.raises(ValueError, match="at least one network"):
        plots.accuracy_against_energy([])


def test_more_networks_than_colors_can_be_told_apart():
    figure = plots.accuracy_against_energy([plots.Point(str(n), n / 20, 1e3, 2e3) for n in range(14)])
    looks = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines if line.get_marker() != "None"}
    assert len(looks) == 14


def lines_of(ax):
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in ax.lines}


def test_accuracy_by_share():
    rows = [row(CELLS[0], test_accuracy=80.0), row(CELLS[2], test_accuracy=90.0), row(CELLS[3], test_accuracy=70.0),
            row(CELLS[2], test_accuracy=96.0, seed=1, dataset="digits (JPEG copy)")]  # fmt: skip
    first, second = table_plots.accuracy_by_share(CELLS[:6], rows).axes
    assert lines_of(first) == {
        "paper, separate": [(0, 50), (50, 60), (100, 70)],
        "ours, separate (recipe paper / paper; JPEG copy)": [(0, 80), (50, 93), (100, 70)],
        "paper, simultaneous": [(0, 50), (50, 55), (100, 70)],
        "ours, simultaneous (recipe paper)": [(0, 80), (100, 70)],
    }
    assert lines_of(second) == {"paper, simultaneous": [(50, 65), (100, 70.5)]}
    with pytest.raises(ValueError, match="at least one cell"):
        table_plots.accuracy_by_share([], rows)


@pytest.mark.parametrize("tables", [["1a"], ["1a", "2a"]])
def test_legend_is_not_cut_off(tables):
    rows = [row(cell, recipe="paper, 2 epochs", dataset="digits (JPEG copy)") for cell in CELLS]
    figure = table_plots.accuracy_by_share([cell for cell in CELLS if cell.table in tables], rows)
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1


def test_learning_curves():
    history = [{"epoch": e, "train_loss": 1 / e, "validation_accuracy": 0.5 + e / 10} for e in (1, 2)]
    figure = table_plots.learning_curves(
        {CELLS[0]: [history, []], CELLS[2]: [[]], CELLS[3]: [history, history]}, "paper"
    )
    loss, accuracy = figure.axes
    assert figure.get_suptitle() == "Table 1(a): duplicate coding, MNIST (recipe paper)"
    assert [line.get_color() for line in loss.lines] == ["C0", "C2", "C2"]
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[60, 70]] * 3
    assert all(epoch == int(epoch) for ax in figure.axes for epoch in ax.get_xticks())
    assert [text.get_text() for text in figure.legends[0].texts] == ["S16-S10, simultaneous", "A16-A10, simultaneous"]
    with pytest.raises(ValueError, match="at least one epoch"):
        table_plots.learning_curves({CELLS[0]: [[]]}, "paper")


def test_learning_curves_of_the_authors_data_set_have_theirs():
    history = [{"epoch": e, "train_loss": 10.0 ** (-3 * e), "validation_accuracy": 0.5} for e in (1, 2)]
    loss, accuracy = table_plots.learning_curves({CELL: [history]}, "authors").axes
    assert len(loss.lines) == 1
    epochs, accuracies = accuracy.lines[1].get_data()
    assert list(zip(epochs, accuracies, strict=True)) == list(POINTS)
    assert [epoch for epoch, _ in POINTS] == sorted({epoch for epoch, _ in POINTS})
    assert (CELL.run.architecture, CELL.accuracy) == ("A32C3-A32C3-A64C3-P2-A64C3-P2-S512-S10", 63.82)


def test_nothing_to_plot():
    network, images = make("A6-A5")
    for plot in (plots.raster, plots.membranes):
        with pytest.raises(ValueError, match="A6-A5 has no spiking layer"):
            plot(network, images[0])


def test_images_that_are_no_pictures_leave_the_layers():
    network, _ = make("S6-S5", (12,))
    assert len(plots.raster(network, torch.rand(12, dtype=torch.float64)).axes) == 2
