"""A hybrid network in a LightningModule of your own: artificial convolutions, then spiking layers.

    python examples/hybrid_cnn_lightning.py

The images are the 8 x 8 digits that ship with scikit-learn. (`hnn_models.train` is the ready-made way.)
"""

import argparse

import lightning
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, random_split

from hnn_models import HybridNetwork, load_images


class Classifier(lightning.LightningModule):
    """Cross-entropy of the spike counts."""

    def __init__(self) -> None:
        super().__init__()
        # Artificial: a convolution of 16 channels, a pool. Then the coding, and two spiking layers.
        self.network = HybridNetwork("A16C3-P2-S64-S10", (1, 8, 8), steps=10)

    def training_step(self, batch, batch_index):
        images, labels = batch
        loss = cross_entropy(self.network(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_index):
        images, labels = batch
        right = self.network(images).argmax(1) == labels
        self.log("accuracy", right.float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()

lightning.seed_everything(0, verbose=False)
training, validation = random_split(load_images("digits"), [0.8, 0.2])
model = Classifier()
print(model.network)
trainer = lightning.Trainer(
    max_epochs=args.epochs,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(training, 64, shuffle=True), DataLoader(validation, 256))
print(f"validation accuracy {trainer.callback_metrics['accuracy'].item():.1%}")
