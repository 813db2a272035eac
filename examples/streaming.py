"""Streaming: sound-like input that never ends, chunk by chunk, with the state of the neurons between the chunks.

    python examples/streaming.py

The network hears a tone of one of two pitches in noise, and tells which it was at every moment. Training goes through
each stream chunk by chunk (truncated backpropagation through time), so its memory is that of one chunk.
"""

import argparse

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hnn_kernels import IIR, LIFState, nn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--streams", type=int, default=30)
args = parser.parse_args()
torch.manual_seed(0)
CHUNK, CHUNKS, BATCH, HIDDEN = 50, 8, 32, 64
State = tuple[LIFState, LIFState]


def stream() -> tuple[Tensor, Tensor]:
    """A batch of streams, [CHUNKS, CHUNK, BATCH, 1], and the pitch of each chunk, [CHUNKS, BATCH]."""
    pitch = torch.randint(2, (CHUNKS, BATCH))
    time = torch.arange(CHUNKS * CHUNK, dtype=torch.float32).view(CHUNKS, CHUNK, 1)
    wave = torch.sin(time * torch.where(pitch == 1, 0.5, 0.3)[:, None])
    return (wave + 0.5 * torch.randn_like(wave)).unsqueeze(-1), pitch


class Listener(torch.nn.Module):
    """A layer that spikes and one that integrates; the state of both goes in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.hear = torch.nn.Linear(1, HIDDEN)
        self.neurons = nn.LIF(0.7, reset="subtract", learn=("decay",), shape=(HIDDEN,))
        self.tell = torch.nn.Linear(HIDDEN, 2)
        # Neurons that never fire: their potential is the answer at every step.
        self.answer = nn.LIF(0.95, reset="none", readout="none", potential="train", synapse=IIR.exponential(5))

    def forward(self, sound: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        neurons, answer = state if state is not None else (None, None)
        spikes, neurons = self.neurons(self.hear(sound), state=neurons, return_state=True)
        out, answer = self.answer(self.tell(spikes), state=answer, return_state=True)
        return out, (neurons, answer)


listener = Listener()
optimizer = torch.optim.Adam(listener.parameters(), lr=1e-2)
for number in range(args.streams):
    sound, pitch = stream()
    state, right = None, 0.0
    for chunk, wanted in zip(sound, pitch, strict=True):
        out, state = listener(chunk, state)
        loss = cross_entropy(out[-1], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state = tuple(part.detach() for part in state)  # the next chunk goes on, and no gradient goes back
        right += (out[-1].argmax(1) == wanted).float().mean().item() / CHUNKS
    if number % 10 == 0 or number == args.streams - 1:
        print(f"stream {number}: loss {loss.item():.3f}, {right:.0%} of the chunks right")

# A live stream: whatever the sizes of the chunks, the answers are the same.
with torch.inference_mode():
    sound = stream()[0].flatten(0, 1)
    whole, _ = listener(sound)
    answers, state = [], None
    for chunk in sound.split([1, 7, 160, len(sound) - 168]):
        out, state = listener(chunk, state)
        answers.append(out)
    torch.testing.assert_close(torch.cat(answers), whole)
