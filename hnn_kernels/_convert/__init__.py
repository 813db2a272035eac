"""Models of other libraries on the kernels of this one, in place: their neurons change class, and nothing else."""

from torch import nn

from .. import _checks
from .libraries import only_constructs, rule_of, why_not
from .report import Conversion, Report
from .rules import full_name, without_compiler
from .swap import converted_class, original


def convert(model: nn.Module, exact: bool = True) -> Report:
    """Let the neurons of another library in ``model`` compute with the kernels of this one, in place.

    Known are SpikingJelly 2 (and 0.0.0.0.12 and 0.0.0.0.14 with their names), sinabs 3, Norse 1 and
    snnTorch 1. A neuron's class becomes a subclass of itself. So parameters, the keys of the state dict, an optimizer,
    hooks, ``isinstance``, the library's resets, copies, pickles, DDP, autocast and ``torch.compile`` are as before.
    :func:`hnn_kernels.revert` undoes it.

    All numbers of a neuron are read at each call, so they may be changed later. Where they become such that no kernel
    computes them, the library computes the call itself, and a warning says so. snnTorch's neurons, Norse's cells that
    fire and SpikingJelly's neurons with ``step_mode="s"`` get one step in a call; each step is a kernel then, and
    :func:`hnn_kernels.unroll` has one for all steps.

    Spikes are those of the library up to float rounding, and gradients too: a kernel may add in another order. In
    bfloat16 and float16 the state is float32 within a call. Steps that are not leaky integration are neurons by
    definition, compiled at their first call (docs/neurons.md).

    Args:
        model: a module, or one that holds the neurons at any depth. What is converted already stays so.
        exact: True replaces nothing that is not known to be exact. False also converts by the table what it may not
            fit: modules of a version that was not tried, and subclasses that define nothing but another constructor.

    Returns:
        A sequence with an entry for each neuron of a known library: its ``name`` in the model, whether it was
        ``replaced``, by what ``mapping``, whether that is ``exact``, and otherwise ``why`` not. ``report.replaced`` and
        ``report.left`` are its parts. Printed, it has a line for each.

    Raises:
        TypeError: ``model`` is no module, or ``exact`` no bool.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    exact = _checks.flag("exact", exact)
    done: list[Conversion] = []
    inner: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inner:
            continue
        if original(type(module)) is None:
            done += _convert(name, module, exact)
        if original(type(module)) is not None:
            rule = type(module)._hnn_rule
            inner |= {getattr(module, rule.inner)} if rule.inner else set()
    return Report(done)


def _convert(name: str, module: nn.Module, exact: bool) -> list[Conversion]:
    """Convert one module, where there is a rule for it; return its entry of the report, if it has one."""
    kind = type(module)
    found = rule_of(kind)
    if found is None:
        why = why_not(kind)
        return [Conversion(name, full_name(kind), False, "", False, why)] if why else []
    why = found.doubt if exact or not only_constructs(kind) else ""
    if not why and found.rule.compiled:
        why = without_compiler()
    given = why or found.rule.values(module) or found.rule.arguments(module)
    if given == "":  # such as a Lift of something that is no neuron
        return []
    if isinstance(given, str):
        return [Conversion(name, full_name(kind), False, "", False, given)]
    module.__class__ = converted_class(kind, found.rule)
    mapping = "; ".join(filter(None, (found.rule.mapping, found.rule.aside(module))))
    return [Conversion(name, full_name(kind), True, mapping, not found.doubt, found.doubt)]


def revert(model: nn.Module) -> None:
    """Undo :func:`hnn_kernels.convert`: every converted neuron in ``model`` has its library's class again.

    States and numbers stay as they are. Modules that are not converted are left alone.

    Args:
        model: a module, or one that holds the neurons at any depth.

    Raises:
        TypeError: ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    for module in model.modules():
        kind = original(type(module))
        if kind is not None:
            module.__class__ = kind
