"""The progress of a training run on stderr: a bar, and a line with the figures of each epoch."""

from typing import Any

from .launch import without_leftovers

with without_leftovers():
    import lightning
    from lightning.pytorch.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Lightning's bar, above which every epoch leaves a line with its loss, accuracy and firing rates.

    The bar itself has no room for figures in a terminal of 80 columns, and in a file it is written once, at the end.
    """

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})
        self._ended: int | None = None  # the epoch whose line is due, from 1

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        """The figures in the bar: none."""
        return {}

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the line of the epoch before."""
        self._write_line(trainer)
        super().on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Have a line written once the network, whose turn is next, has logged its loss."""
        super().on_train_epoch_end(trainer, pl_module)
        self._ended = trainer.current_epoch + 1

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the last line."""
        self._write_line(trainer)
        super().on_train_end(trainer, pl_module)

    def _write_line(self, trainer: lightning.Trainer) -> None:
        if self._ended is not None and self.progress is not None and self.is_enabled:
            console = self.progress.console
            line = f"epoch {self._ended}/{trainer.max_epochs}  {figures(trainer.callback_metrics)}"
            # Only a terminal has a width to break lines at.
            console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)
        self._ended = None

    def _get_train_description(self, current_epoch: int) -> str:
        # Lightning counts from 0, and everything else here from 1.
        return (
            super()
            ._get_train_description(current_epoch + 1)
            .replace(f"/{(self.trainer.max_epochs or 0) - 1}", f"/{self.trainer.max_epochs}")
        )


def figures(logged: Any) -> str:
    """The figures of an epoch in words.

    Args:
        logged: what the network has logged, by name; the rate of the second spiking layer, S500, is ``"rate_2_S500"``.
    """
    rates = {name: value for name, value in logged.items() if name.startswith("rate_")}
    words = [f"loss {float(logged['train_loss']):.3f}"] if "train_loss" in logged else []
    if "validation_accuracy" in logged:
        words.append(f"validation {100 * float(logged['validation_accuracy']):.2f} %")
    if rates:
        spikes = ", ".join(f"{name.split('_', 2)[2]} {float(rate):.3g}" for name, rate in rates.items())
        words.append(f"rates {spikes}")
    return "  ".join(words)
