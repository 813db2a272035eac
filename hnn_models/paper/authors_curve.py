"""The learning curve that the paper's authors published: validation accuracy of one network of Table 2(b)."""

from .cells import CELLS

# The network with four artificial layers of six and Gaussian coding.
CELL = next(
    cell
    for cell in CELLS
    if (cell.table, cell.artificial_share) == ("2b", 4 / 6) and cell.run.learning == "simultaneous"
)
# Epoch, from 1, and accuracy in percent, rounded: from ann4_coding_snn4.csv among the notebooks of
# github.com/DenDen047/hybrid_network (commit 9e739a9). The learning rate falls after epoch 75.
POINTS = (
    (1, 36.53), (2, 44.23), (4, 51.73), (6, 56.87), (8, 59.03), (10, 61.17), (13, 62.38), (15, 60.14), (20, 61.43),
    (25, 61.84), (30, 60.90), (36, 62.10), (40, 61.02), (45, 61.44), (50, 61.26), (55, 60.98), (60, 61.04), (65, 61.76),
    (70, 61.22), (74, 61.16), (75, 62.17), (76, 63.04), (80, 63.50), (90, 63.03), (98, 63.86), (110, 63.78),
    (120, 63.97), (130, 63.78), (140, 63.98), (150, 64.27),
)  # fmt: skip
