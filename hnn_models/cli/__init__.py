"""The command line ``hnn``."""


def main() -> None:
    """Run ``hnn``."""
    from .app import main as run  # here, so that a part of this package can be imported without the extra 'models'

    run()
