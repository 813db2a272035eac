"""Views of the same numbers in other layouts."""

import torch

T, B, C, H, W = SHAPE = (4, 3, 5, 2, 7)


def channels_last(values):
    return values.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (T, B))


def slice_of_more(values):
    more = values.new_full((T + 3, B + 2, C, H, 2 * W + 1), torch.nan)
    view = more[2 : 2 + T, 1 : 1 + B, :, :, 1 : 2 * W : 2]
    view.copy_(values)
    return view


# Each makes a [T, B, C, H, W] view of contiguous numbers. The expanded ones use only some of the numbers.
LAYOUTS = {
    "contiguous": lambda x: x,
    "[B, T, ...] moved": lambda x: x.movedim(0, 1).contiguous().movedim(1, 0),
    "[B, ..., T] moved": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "channels last": channels_last,
    "features reversed": lambda x: x.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2),
    "batch last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "slice of more": slice_of_more,
    "every second step": lambda x: x.repeat_interleave(2, 0)[::2],
    "expanded in time": lambda x: x[:1].expand(SHAPE),
    "expanded in batch": lambda x: x[:, 1:2].expand(SHAPE),
    "expanded in a feature": lambda x: x[:, :, :, :1].expand(SHAPE),
    "expanded in time and a feature": lambda x: x[2:3, :, 1:2].expand(SHAPE),
    "one number": lambda x: x[0, 0, 0, 0, 0].expand(SHAPE),
    "sliding windows": lambda x: x.flatten().unfold(0, B * C * H * W, 1)[:T].unflatten(1, SHAPE[1:]),
}  # fmt: skip
