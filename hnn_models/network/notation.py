"""The paper's notation for architectures, such as ``A32C3-P2-S500-S10``, and the shapes that it gives."""

import re
from collections.abc import Sequence

from .modifiers import DIGITS, MODIFIERS, fields, taken_apart
from .tokens import TOKENS, NotationError, Shape, Token

__all__ = ["NotationError", "Shape", "artificial_twin", "parse", "shapes"]

_EXAMPLES = f"{', '.join(kind.examples for kind in TOKENS[:-1])}, or {TOKENS[-1].examples}"
_MODIFIERS = ", ".join(map(str, MODIFIERS.values()))


def parse(text: str, *, classes: int | None = None, input_shape: Sequence[int] | None = None) -> tuple[Token, ...]:
    """Read an architecture.

    Args:
        text: tokens joined by ``-``. ``A500`` is a dense layer of 500 artificial neurons, and ``S500`` one of 500
            spiking neurons. ``A32C3`` and ``S32C3`` are convolutions of 32 channels with 3 x 3 kernels and no padding.
            ``P2`` is a 2 x 2 max-pool, and ``P`` one over the whole image. Behind these may stand modifiers, which
            :data:`hnn_models.network.modifiers.MODIFIERS` lists: ``A64C3p1n`` has a padding of 1 and batch norm, and
            ``Pa`` is the average over the image. All artificial layers come before all spiking ones, and convolutions
            and pools come before dense layers. The last layer is dense, without dropout.
        classes: the size that the last layer must have; None for any.
        input_shape: the shape of an image that the layers must fit; None for any.

    Returns:
        The tokens, input side first. Each has ``kind`` (``"dense"``, ``"convolution"`` or ``"pool"``), ``text``,
        ``spiking``, ``size``, ``kernel``, and a field for each modifier: ``padding``, ``stride``, ``average``, ``norm``
        and ``dropout``.

    Raises:
        TypeError: ``text`` is not a string.
        NotationError: ``text`` is not an architecture, or does not fit ``classes`` or ``input_shape``.
    """
    if not isinstance(text, str):
        raise TypeError(f"architecture must be a string such as 'A784-A500-S10'; got {type(text).__name__}")
    tokens: list[Token] = []
    start = 0
    for word in text.split("-"):
        tokens.append(_read(word, text, start, tokens[-1] if tokens else None))
        start += len(word) + 1
    last = tokens[-1]
    if last.kind != "dense":
        raise last.error(f"{last.text!r}: the last layer must be dense, with one neuron per class")
    if last.dropout:
        raise last.error(f"{last.text!r}: the last layer gives the logits, so it takes no dropout")
    if classes is not None and last.size != classes:
        raise last.error(f"the last layer needs one neuron per class, {classes}; got {last.size}")
    if input_shape is not None:
        shapes(tokens, input_shape)
    return tuple(tokens)


def shapes(tokens: Sequence[Token], input_shape: Sequence[int]) -> list[Shape]:
    """The shape behind each token, for images of ``input_shape``; no shape has the batch.

    Raises:
        NotationError: a token does not fit.
    """
    found = [tuple(input_shape)]
    for token in tokens:
        found.append(token.shape(found[-1]))
    return found[1:]


def artificial_twin(tokens: Sequence[Token]) -> str:
    """The architecture of the same layers, all of them artificial."""
    return "-".join(token.twin for token in tokens)


def _read(word: str, text: str, start: int, before: Token | None) -> Token:
    """The token that ``word``, found at ``text[start:]``, stands for."""

    def error(problem: str) -> NotationError:
        return NotationError(problem, text, start, len(word))

    if not word:
        raise error("a layer is missing here; an architecture looks like A784-A500-S10")
    head, tail = taken_apart(word)
    for kind in TOKENS:
        if match := re.fullmatch(kind.pattern, head):
            break
    else:
        raise error(f"{word!r} is not a layer; a layer is {_EXAMPLES}, with any of {_MODIFIERS} behind it")
    groups = match.groupdict()
    part = groups.pop("part", None)
    numbers = {name: digits for name, digits in groups.items() if digits is not None}
    if any(len(digits) > DIGITS for digits in numbers.values()):
        raise error(f"{word!r}: a size may have nine digits at most")
    modified = fields(tail, kind.modifiers, kind.kind, lambda problem: error(f"{word!r}: {problem}"))
    after_spiking = before is not None and before.spiking
    spiking = part == "S" if part else after_spiking
    modified |= {name: int(digits) for name, digits in numbers.items()}
    token = kind(text, start, word, spiking, **modified)
    token.check()
    if after_spiking and not token.spiking:
        raise error(f"{word!r}: an artificial layer cannot follow a spiking one; all A come before all S")
    if token.needs_image and before is not None and not before.gives_image:
        raise error(f"{word!r}: a {token.kind} cannot follow a {before.kind} layer")
    return token
