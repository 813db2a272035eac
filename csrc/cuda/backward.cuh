// The kernel of hnn::lif_backward_cuda.
#pragma once

#include "kernels.cuh"

namespace HNN_NAMESPACE {

// The blocks with a longer history, which learn, and those of other forms whose options are no constants and that do
// not learn. For compute capability 10 ptxas needs some registers more, than 128 and than 96. A quarter of the warps
// share a quarter of the registers: what comes next is 168, for six blocks, and 128, for eight.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ / 100 == 10
constexpr int kDeepBlocks = 6, kOtherBlocks = 8;
#else
constexpr int kDeepBlocks = 8, kOtherBlocks = 10;
#endif

// Blocks per multiprocessor that the registers must allow. Several neurons per thread may have 128 registers: 512
// threads with several neurons each have enough loads in flight. A filter alone needs 80. The plain layer's 80
// registers a thread let 768 threads run. Left alone, ptxas spills a few bytes to need a little less, or takes 110 for
// a schedule that is of no use here. The other forms have 96, or 128 where they learn beside a filter and need them,
// the general one 128 and 168. In the form for anything there is no real limit.
template <class IO, class Form, int kLanes, bool kLearns>
constexpr int kBackwardBlocks = kLanes > 1                                     ? (Form::kReset == kNoMembrane ? 12 : 8)
                                : kIsPlain<Form>                               ? 12
                                : Form::kAnything                              ? 4
                                : Form::kDepth > 4                             ? (kLearns ? 6 : 8)
                                : kLearns && !Form::kUsual && Form::kDepth > 0 ? (Form::kDepth > 1 ? kDeepBlocks : 8)
                                : kLearns || Form::kUsual                      ? 10
                                                                               : kOtherBlocks;

// Whether the layer has a membrane. Only a synapse can stand alone.
template <class Form, bool kSynapse>
HNN_INLINE bool has_membrane(int reset) {
  return Form::kUsual ? Form::kReset != kNoMembrane : !kSynapse || reset != kNoMembrane;
}

// The rows of shared memory of one thread's neurons: step i of the segment is element i * kRow of a row.
constexpr int kRow = hnn::cuda::kBackwardBlock;

// Element `at` of a row. Before the segment, it is the history that the segment's start kept, newest first.
template <class V>
HNN_INLINE V row_or_history(const V* row, int at, const V* history, int64_t step) {
  return at >= 0 ? row[at] : history[(-at / kRow - 1) * step];
}

// Puts values of a filter's history before a row, the newest last, and zeros where it has fewer than kBack.
template <int kBack, class V, class Filter>
HNN_INLINE void put_before(V* row, const Filter& filter, int first, int count) {
#pragma unroll
  for (int i = 0; i < kBack; ++i) row[-(i + 1) * kRow] = i < count ? filter.history[first + i] : V{};
}

// The spikes before a segment, where an axon in registers goes back to them.
template <class V, class Form, bool kLearns, class = void>
struct PastOf {
  template <class Layer>
  HNN_INLINE PastOf(const Layer&) {}
};
template <class V, class Form, bool kLearns>
struct PastOf<V, Form, kLearns, std::enable_if_t<kLearns && (Form::kBack > 0) && Form::template Axon<V>::kPossible>> {
  static constexpr int kCount = Form::template Axon<V>::feedforward;
  V spikes[kCount > 0 ? kCount : 1];

  template <class Layer>
  HNN_INLINE PastOf(const Layer& layer) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) spikes[i] = layer.axon.history[layer.axon.feedback + i];
  }
  // The spike of a row, which is `inside` from the segment's first step on.
  HNN_INLINE V spike(int at, V inside) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (at == -(i + 1) * kRow) inside = spikes[i];
    }
    return inside;
  }
};

// The gradient of the potential of one step after another, where it is a result.
template <class IO, class V, bool kReads>
class GivenTo {
 public:
  HNN_INLINE GivenTo(const hnn::cuda::BackwardCall&, int64_t, int64_t) {}
  HNN_INLINE void start(int, int) {}
  HNN_INLINE V next(const Options&) { return {}; }
};
template <class IO, class V>
class GivenTo<IO, V, true> {
 public:
  HNN_INLINE GivenTo(const hnn::cuda::BackwardCall& call, int64_t at, int64_t dense)
      : train_(call.grad_potential, at), steps_(call.steps) {
    if (call.peak) peak_ = static_cast<const V*>(call.peak)[dense];
  }
  HNN_INLINE void start(int t, int count) {
    t_ = t;
    train_.start(t, count);
  }
  HNN_INLINE V next(const Options& o) {
    return o.potential == kPotentialNone ? V{} : of_read_out(o, train_.next(), peak_, t_--, steps_);
  }

 private:
  Beside<IO, -1> train_;
  int t_ = 0, steps_;
  V peak_ = {};
};

template <class IO, class Form, int kLanes, bool kLearns>
__global__ void __launch_bounds__(hnn::cuda::kBackwardBlock, kBackwardBlocks<IO, Form, kLanes, kLearns>)
    backward(const __grid_constant__ hnn::cuda::BackwardCall call) {
  using Pack = Packed<IO, kLanes>;
  using V = Neurons<typename Element<IO>::Compute, kLanes>;
  constexpr bool kSynapse = Form::template Synapse<V>::kPossible, kAxon = Form::template Axon<V>::kPossible;
  const int64_t m = this_thread(), n = threads<kLanes>(call);
  if (m >= n) return;
  Offsets at = {};
  struct {
    int64_t grad_out, grad_potential, grad_current;
#define HNN_DECLARE(name, Name) int64_t grad_after_##name;
    HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
  } at_grad = {};
  find<kLanes>(
      call, m,
      [&](int64_t place) {
        at.current = at.dense = at_grad.grad_out = at_grad.grad_potential = at_grad.grad_current = place;
      },
      [&](int axis, int64_t index) {
        at.advance<Form>(call, axis, index);
        if (call.stateless) return;
#define HNN_ADVANCE(name, Name) at_grad.grad_after_##name += index * call.grad_after_##name.stride[axis];
        HNN_STATES(HNN_ADVANCE)
#undef HNN_ADVANCE
      },
      [&](int axis, int64_t index) {
        at.current += index * call.current.stride[axis];
        at.dense += index * call.dense[axis];
        at_grad.grad_out += index * call.grad_out.stride[axis];
        if constexpr (Form::kReads) at_grad.grad_potential += index * call.grad_potential.stride[axis];
        at_grad.grad_current += index * call.grad_current.stride[axis];
      });
  // Threads with several neurons have enough loads in flight, unless what learns leaves room for few of them.
  constexpr bool kAsks = kLanes == 1 || kLearns;
  constexpr int kThreads = kAsks ? kBackwardBlocks<IO, Form, kLanes, kLearns> * hnn::cuda::kBackwardBlock : 0;
  constexpr bool kFollows = kAsks && kSynapse;  // a filter alone has one segment, however long
  const bool membrane = has_membrane<Form, kSynapse>(call.reset);
  // A filter alone, none of whose coefficients is learnt, needs no step again.
  const bool again = membrane || (kLearns && call.rows > 0);
  Reader<IO, kLanes, 1, !Form::kAnything, !Form::kUsual, kThreads> current(call.current, at.current);
  Reader<IO, kLanes, -1, !Form::kAnything, !Form::kUsual, kThreads, kFollows> grad_out(call.grad_out, at_grad.grad_out);
  // Each piece of a train is asked for before what takes time: the coefficients' loads, the piece before it.
  const int from = (call.windows - 1) * call.window;
  if (kAsks && again) current.ask(from, call.steps - from);
  if (kAsks && !again) grad_out.ask(call.steps - 1, call.steps);
  Writer<IO, kLanes, -1> grad_current(call.grad_current, at_grad.grad_current);
  GivenTo<IO, V, Form::kReads> grad_potential(call, at_grad.grad_potential, at.dense);
  Layer<V, Form, kLearns> layer(call, at, n, m);
  // The coefficients of a filter are learnt also from values before the segment. Where they are in memory, the last
  // segment's start keeps them, too; where in registers, they lie in shared memory before the segment's own.
  const bool all_starts = Form::kAnything && kLearns && (call.synapse.learns || call.axon.learns);
#define HNN_KEEP(name, Name) const bool keeps_##name = kLearns && (kIsPlain<Form> || call.row_##name >= 0);
  HNN_LATER_STATES(HNN_KEEP)
#undef HNN_KEEP
  Adjoint<V> adjoint = {};
  if (!call.stateless) {
#define HNN_READ(name, Name) \
  if (call.grad_after_##name.data) adjoint.name = gather<V>(call.grad_after_##name, call, at_grad.grad_after_##name);
    HNN_STATES(HNN_READ)
#undef HNN_READ
  }
  layer.synapse.begin_backward(call.synapse, call, at.synapse);
  layer.axon.begin_backward(call.axon, call, at.axon);
  Coefficients<V> sum = {};
  V total = {};  // of a constant current's gradient

  HNN_SHARED(V, shared);
  // V[t] is v[(t - begin) * kRow], and likewise the others. What decays into the segment's first step lies before it.
  constexpr int kBefore = kLearns && Form::kBack > 1 ? Form::kBack : 1;
  V* const v = shared + kBefore * kRow + threadIdx.x;
#define HNN_ROW(name, Name) V* const name##_row = v + call.row_##name;
  HNN_LATER_STATES(HNN_ROW)
#undef HNN_ROW
  // A row that is not kept is read all the same, rather than branched on, and its sum is dropped.
  [[maybe_unused]] const bool keeps_x = call.row_x >= 0, keeps_y = call.row_y >= 0, keeps_f = call.row_f >= 0;
  V* const x_row = v + (keeps_x ? call.row_x : 0);
  V* const y_row = v + (keeps_y ? call.row_y : 0);
  V* const f_row = v + (keeps_f ? call.row_f : 0);
  const int64_t state = call.depth * n;
  V* const starts = static_cast<V*>(call.starts) + m;
  if (call.windows > 1) layer.keep(starts + (call.slots - 1) * state, n);

#pragma unroll 1
  for (int window = call.windows - 1; window >= 0; --window) {
    const int first = window * call.window, last = first + least(call.window, call.steps - first);
    const int segments = window + 1 < call.windows ? call.segments : call.last_segments;
    const auto begin_of = [&](int segment) {
      const int begin = last - (segments - segment) * call.segment;
      return begin > first ? begin : first;
    };
    if (window > 0) {
      layer.recall(static_cast<const V*>(call.checkpoints) + (window - 1) * state + m, n);
    } else if (call.windows > 1) {
      layer.recall(starts + (call.slots - 1) * state, n);
    }
    // First forward through all segments but the last, for the states at their starts; then backward through all.
#pragma unroll 1
    for (int turn = again ? 1 - segments : 0; turn < segments; ++turn) {
      const bool adjoins = turn >= 0;
      const int i = segments - 1 - (adjoins ? turn : -turn), begin = begin_of(i), end = begin_of(i + 1);
      V* const start = starts + i * state;
      if (!adjoins) layer.keep(start, n);
      if (turn == 0 && again && all_starts) layer.keep_filters(start, n);
      if (turn > 0 && again) layer.recall(start, n);
      if (again) current.start(begin, end - begin);
      if (adjoins) {
        if (again) grad_out.ask(end - 1, end - begin);
        grad_out.start(end - 1, end - begin);  // early, so that their latency passes in the loop below
        grad_potential.start(end - 1, end - begin);
        grad_current.start(end - 1);
      } else if (kAsks) {
        current.ask(end, last - end);
      }
      const V before = layer.s.v;
      if (again) {
        v[-kRow] = before;
#pragma unroll
        for (int i = 2; i <= kBefore; ++i) v[-i * kRow] = V{};
      }
      if constexpr (kLearns && Form::kBack > 0) {
        if constexpr (kSynapse) {
          if (keeps_y) put_before<Form::kBack>(y_row, layer.synapse, 0, layer.synapse.feedback);
          if (keeps_x) put_before<Form::kBack>(x_row, layer.synapse, layer.synapse.feedback, layer.synapse.feedforward);
        }
        if constexpr (kAxon) {
          if (keeps_f) put_before<Form::kBack>(f_row, layer.axon, 0, layer.axon.feedback);
        }
      }
      const PastOf<V, Form, kLearns> past(layer);
      int next = 0;
      Trace<V> t = {};
      if (again)
        with_constants<Form>(layer.options, [&](const Options& o) HNN_ALWAYS {
          const bool membrane = o.reset != kNoMembrane;
          const auto recompute = [&](const auto& steps, int i) {
            int row = next + i * kRow;
#pragma unroll
            for (const V x : steps.of) {
#define HNN_KEEP(name, Name) \
  if (keeps_##name) name##_row[row] = layer.s.name;
              HNN_LATER_STATES(HNN_KEEP)
#undef HNN_KEEP
              t = layer.step(x, o);
              if (membrane) v[row] = t.potential;
              if (kLearns && kSynapse && keeps_x) x_row[row] = x;
              if (kLearns && kSynapse && keeps_y) y_row[row] = t.filtered;
              if (kLearns && kAxon && keeps_f) f_row[row] = t.out;
              row += kRow;
            }
          };
          current.each(recompute, [&](int steps) { next += steps * kRow; });
        });
      if (!adjoins) continue;
      if (kAsks && again && begin > 0) {
        const int next_begin = i > 0 ? begin_of(i - 1) : first - call.window;
        current.ask(next_begin, begin - next_begin);
      }
      // The way back through a filter that learns begins with as many values as its registers hold: of those that its
      // orders lack, the later steps need some.
      if constexpr (kLearns && Form::kMost > 0) {
#pragma unroll
        for (int i = 0; i < Form::kMost; ++i) {
          const int at_row = next - (i + 1) * kRow;
          if (keeps_y) layer.synapse.history[i] = y_row[at_row];
          if (keeps_x) layer.synapse.history[Form::kMost + i] = x_row[at_row];
          if (keeps_f) layer.axon.history[i] = f_row[at_row];
          V unused;
          if (call.axon.learns) {
            layer.axon.history[Form::kMost + i] = past.spike(at_row, layer.replay(v[at_row], unused, layer.options));
          }
        }
      }
      V v_t = t.potential, spike_t = t.spike;
      // Beside a synapse the branch on the reset is outside of the loop, which makes each step shorter. Elsewhere it is
      // taken once in a few steps, which makes none longer and compiles faster.
      with_constants<Form, kSynapse>(layer.options, [&](const Options& outside) HNN_ALWAYS {
        const bool membrane = has_membrane<Form, kSynapse>(outside.reset);
        const auto adjoin = [&](const auto& grads, int i) {
          constexpr int kCount = std::decay_t<decltype(grads)>::count;
          int row = next - (i + 1) * kRow;
          V decays[kCount], at_v[kCount];  // what decays into each step, and the surrogate's slopes
          if (membrane) {
#pragma unroll
            for (int k = 0; k < kCount; ++k) {
              decays[k] = v[row - (k + 1) * kRow];
              at_v[k] = (k ? decays[k - 1] : v_t) - layer.c.threshold;
            }
            slopes(outside, at_v, layer.extent, layer.c.threshold);
          }
          with_constants<Form, !kSynapse>(outside, [&](const Options& o) HNN_ALWAYS {
#pragma unroll
            for (int k = 0; k < kCount; ++k, row -= kRow) {
              V grad_f = grads.of[k];
              const V grad_spike = layer.axon.backward_step(grad_f);
              if constexpr (kLearns && kAxon) {
                if (call.axon.learns) {
                  auto& axon = layer.axon;
                  V f = {}, spike = {}, unused;
                  const int oldest_f = row - axon.feedback * kRow, oldest_spike = row - axon.feedforward * kRow;
                  if constexpr (Form::kAnything) {
                    const V* const history = start + (kStates + layer.synapse.depth()) * n;
                    if (axon.feedback && keeps_f) f = row_or_history(f_row, oldest_f, history, n);
                    if (axon.feedforward) {
                      spike = oldest_spike >= 0 ? layer.replay(v[oldest_spike], unused, o)
                                                : row_or_history(v, oldest_spike, history + axon.feedback * n, n);
                    }
                  } else {
                    if (axon.feedback) f = f_row[oldest_f];
                    if (axon.feedforward) spike = past.spike(oldest_spike, layer.replay(v[oldest_spike], unused, o));
                  }
                  axon.rewind(f, spike);
                  axon.accumulate(grad_f, spike_t);
                }
              }
              V grad_y = grad_spike;
              if (membrane) {
                const V v_before = decays[k];
                State<V> previous = {};
                const V spike_before = layer.replay(v_before, previous.v, o);
                if (resets_potential(o) && row == 0) previous.v = before;  // which went through its reset
#define HNN_READ(name, Name) \
  if (keeps_##name) previous.name = name##_row[row];
                HNN_LATER_STATES(HNN_READ)
#undef HNN_READ
                [[maybe_unused]] const Adjoint<V> after = adjoint;
                V through_spike = {};
                grad_y = backward_step(o, adjoint, grad_spike, grad_potential.next(o), at_v[k], v_t, spike_t, layer.c,
                                       through_spike);
                if constexpr (kLearns) accumulate(o, sum, grad_y, through_spike, spike_t, after, previous);
                v_t = v_before;
                spike_t = spike_before;
              }
              const V grad_x = layer.synapse.backward_step(grad_y);
              if constexpr (kLearns && kSynapse) {
                if (call.synapse.learns) {
                  auto& synapse = layer.synapse;
                  V y = {}, x = {};
                  const int oldest_y = row - synapse.feedback * kRow, oldest_x = row - synapse.feedforward * kRow;
                  if constexpr (Form::kAnything) {
                    const V* const history = start + kStates * n;
                    if (synapse.feedback && keeps_y) y = row_or_history(y_row, oldest_y, history, n);
                    if (synapse.feedforward && keeps_x) {
                      x = row_or_history(x_row, oldest_x, history + synapse.feedback * n, n);
                    }
                  } else {
                    if (synapse.feedback) y = y_row[oldest_y];
                    if (synapse.feedforward) x = x_row[oldest_x];
                  }
                  synapse.rewind(y, x);
                  synapse.accumulate(grad_y, x_row[row]);
                }
              }
              total += grad_x;
              grad_current.put(grad_x);
            }
          });
        };
        grad_out.each(adjoin, [&](int steps) { next -= steps * kRow; });
      });
    }
  }
  if (call.current.constant) write(call.grad_current.data, at_grad.grad_current, Pack::narrow(total));
#define HNN_WRITE(name, Name) write(call.after_##name, at.dense, adjoint.name);
  HNN_STATES(HNN_WRITE)
#undef HNN_WRITE
  layer.synapse.end_backward(call.synapse, at.dense, n, m, kLearns);
  layer.axon.end_backward(call.axon, at.dense, n, m, kLearns);
  if constexpr (kLearns) {
#define HNN_WRITE(name, Name) write(call.partial_##name, m, sum.name);
    HNN_COEFFICIENTS(HNN_WRITE)
#undef HNN_WRITE
  }
}

}  // namespace HNN_NAMESPACE
