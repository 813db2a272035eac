"""The command line ``hnn``."""

from .. import signals


def main() -> None:
    """Run ``hnn``."""
    signals.end_at_once()  # the imports take seconds
    from .app import main as run  # here, so that a part of this package can be imported without the extra 'models'

    run()
