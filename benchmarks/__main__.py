"""Run the suite: ``python -m benchmarks``."""

try:
    from .suite.command import main
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}; the benchmarks need the extra 'models': pip install 'hnn-kernels[models]'") from error

main()
