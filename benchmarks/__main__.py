"""Run the suite: ``python -m benchmarks``."""

from hnn_models import signals

signals.end_at_once()  # the imports take seconds
try:
    from .suite.command import main
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}; the benchmarks need the extra 'models': pip install 'hnn-kernels[models]'") from error

main()
