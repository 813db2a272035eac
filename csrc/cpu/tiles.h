// The CPU kernels: kTile neurons at a time through all steps, forward, and for the gradient forward again (the
// potentials of a segment go to scratch that stays in the cache) and then backward. Included into HNN_NAMESPACE once
// per instruction set.

namespace HNN_NAMESPACE {

using hnn::kTile;

// Steps that forward reads ahead. Backward's two passes fetch for each other: the recomputation is short of work and
// asks for the gradients that the way back reads next, which is long and asks for the next tile's currents.
constexpr int kAhead = 4;

// f(0), f(1) ... f(n - 1), each with its number as a constant: arrays that are only indexed by it live in registers.
template <class F, int... k>
HNN_INLINE void unrolled(F& f, std::integer_sequence<int, k...>) {
  (f(std::integral_constant<int, k>{}), ...);
}
template <int n, class F>
HNN_INLINE void unrolled(F f) {
  unrolled(f, std::make_integer_sequence<int, n>{});
}
#define HNN_LAMBDA __attribute__((always_inline))

template <class C>
struct Tile {
  static constexpr int n = kVectors<C>;
  Coefficients<Vector<C>> c[n];
  State<Vector<C>> state[n];
  Vector<C> inverse_width;

  Tile(const hnn::Call& call, int64_t first, int count) {
    inverse_width = broadcast<Vector<C>>(call.inverse_width);
    Vector<C> row[n];
    const auto each = [&](const hnn::PerNeuron& operand, auto set) {
      gather<C>(operand, first, count, row);
      for (int k = 0; k < n; ++k) set(k, row[k]);
    };
    each(call.decay, [&](int k, Vector<C> x) { c[k].decay = x; });
    each(call.reset_decay, [&](int k, Vector<C> x) { c[k].reset_decay = x; });
    each(call.threshold, [&](int k, Vector<C> x) { c[k].threshold = x; });
    each(call.v, [&](int k, Vector<C> x) { state[k].v = x; });
    each(call.r, [&](int k, Vector<C> x) { state[k].r = x; });
  }
};

template <class C, class Get>
HNN_INLINE void save(const hnn::PerNeuron& operand, int64_t first, int count, Get get) {
  Vector<C> row[kVectors<C>];
  for (int k = 0; k < kVectors<C>; ++k) row[k] = get(k);
  scatter<C>(operand, first, count, row);
}

template <class IO, int kSurrogate, bool kSmooth>
void forward_tile(const hnn::ForwardCall& call, int64_t first, int count) {
  using C = Compute<IO>;
  using V = Vector<C>;
  constexpr int n = kVectors<C>;
  Tile<C> tile(call, first, count);
  Reader<IO> current(call.current, first, count);
  Writer<IO> out(call.out, first, count);
  V total[n] = {};
  // Copies that nothing points to stay in registers.
  State<V> state[n];
  Coefficients<V> c[n];
  const V inverse_width = tile.inverse_width;
  unrolled<n>([&](auto k) HNN_LAMBDA { state[k] = tile.state[k], c[k] = tile.c[k]; });
  for (int64_t t = 0; t < call.steps; ++t) {
    const int64_t ahead = t + kAhead;
    current.prefetch(ahead < call.steps ? ahead : ahead - call.steps, ahead >= call.steps);
    const C* x = current.row(t);
    C* const spikes = out.row(t);
    unrolled<n>([&](auto k) HNN_LAMBDA {
      const V spike = forward_step<kSurrogate, kSmooth>(state[k], load(x + k * kLanes<C>), c[k], inverse_width);
      store(spikes + k * kLanes<C>, spike);
    });
    if (call.out.constant) {
      for (int k = 0; k < n; ++k) total[k] = total[k] + load(spikes + k * kLanes<C>);
    } else {
      out.commit(t);
    }
  }
  if (call.out.constant) {
    for (int k = 0; k < n; ++k) store(out.row(0) + k * kLanes<C>, total[k]);
    out.commit(0);
  }
  unrolled<n>([&](auto k) HNN_LAMBDA { tile.state[k] = state[k]; });
  save<C>(call.last_v, first, count, [&](int k) { return tile.state[k].v; });
  save<C>(call.last_r, first, count, [&](int k) { return tile.state[k].r; });
}

// Take the tile's state over steps [begin, end), keeping V[t] (and R[t] where `r` is given) in rows of scratch.
template <class IO, int kSurrogate, bool kSmooth>
void recompute(Tile<Compute<IO>>& tile, Reader<IO>& current, const Reader<IO>& grad_out, int64_t begin, int64_t end,
               Compute<IO>* v, Compute<IO>* r) {
  using C = Compute<IO>;
  constexpr int n = kVectors<C>;
  State<Vector<C>> state[n];
  Coefficients<Vector<C>> c[n];
  const Vector<C> inverse_width = tile.inverse_width;
  unrolled<n>([&](auto k) HNN_LAMBDA { state[k] = tile.state[k], c[k] = tile.c[k]; });
  for (int64_t t = begin; t < end; ++t) {
    grad_out.prefetch(end - 1 - (t - begin), false);
    const C* x = current.row(t);
    unrolled<n>([&](auto k) HNN_LAMBDA {
      if (r) store(r + (t - begin) * kTile + k * kLanes<C>, state[k].r);
      forward_step<kSurrogate, kSmooth>(state[k], load(x + k * kLanes<C>), c[k], inverse_width);
      if (v) store(v + (t - begin) * kTile + k * kLanes<C>, state[k].v);
    });
  }
  unrolled<n>([&](auto k) HNN_LAMBDA { tile.state[k] = state[k]; });
}

template <class C>
struct Gradients {
  Adjoint<Vector<C>> adjoint[kVectors<C>];
  Coefficients<Vector<C>> sum[kVectors<C>] = {};
  Vector<C> current[kVectors<C>] = {};  // summed over time, for a constant current
};

// Walk back over steps [begin, end), whose potentials recompute() left in `v` and `r`; v[-1] is the one before. What is
// recomputed next are the steps from `next` on, of this tile or, where `begin` is 0, of the next.
template <class IO, int kSurrogate, int kResetGrad, bool kLearns>
void reverse(const hnn::BackwardCall& call, const Tile<Compute<IO>>& tile, Gradients<Compute<IO>>& g,
             const Reader<IO>& current, Reader<IO>& grad_out, Writer<IO>& grad_current, int64_t begin, int64_t end,
             int64_t next, const Compute<IO>* v, const Compute<IO>* r) {
  using C = Compute<IO>;
  using V = Vector<C>;
  constexpr int n = kVectors<C>;
  Adjoint<V> adjoint[n];
  Coefficients<V> c[n], sum[n];
  const V inverse_width = tile.inverse_width;
  unrolled<n>([&](auto k) HNN_LAMBDA { adjoint[k] = g.adjoint[k], c[k] = tile.c[k], sum[k] = g.sum[k]; });
  for (int64_t t = end - 1; t >= begin; --t) {
    current.prefetch(next + (end - 1 - t), begin == 0);
    const C* go = grad_out.row(t);
    C* const grads = grad_current.row(t);
    unrolled<n>([&](auto k) HNN_LAMBDA {
      const int64_t at = (t - begin) * kTile + k * kLanes<C>;
      const V next_r = adjoint[k].r;
      V through_spike;
      const V grad = backward_step<kSurrogate, kResetGrad>(adjoint[k], load(go + k * kLanes<C>), load(v + at),
                                                           c[k], inverse_width, through_spike);
      if constexpr (kLearns) {
        accumulate(sum[k], grad, through_spike, next_r, load(v + at - kTile), load(r + at));
      }
      store(grads + k * kLanes<C>, grad);
    });
    if (call.grad_current.constant) {
      for (int k = 0; k < n; ++k) g.current[k] = g.current[k] + load(grads + k * kLanes<C>);
      continue;
    }
    grad_current.commit(t);
  }
  unrolled<n>([&](auto k) HNN_LAMBDA { g.adjoint[k] = adjoint[k], g.sum[k] = sum[k]; });
}

template <class IO, int kSurrogate, bool kSmooth, int kResetGrad, bool kLearns>
void backward_tile(const hnn::BackwardCall& call, void* scratch, int64_t first, int count) {
  using C = Compute<IO>;
  using V = Vector<C>;
  constexpr int n = kVectors<C>;
  Tile<C> tile(call, first, count);
  Gradients<C> g;
  V row[n];
  gather<C>(call.grad_last_v, first, count, row);
  for (int k = 0; k < n; ++k) g.adjoint[k].v = row[k];
  gather<C>(call.grad_last_r, first, count, row);
  for (int k = 0; k < n; ++k) g.adjoint[k].r = row[k];
  Reader<IO> current(call.current, first, count);
  Reader<IO> grad_out(call.grad_out, first, count);
  Writer<IO> grad_current(call.grad_current, first, count);

  // Scratch: the row V[-1] and `segment` rows of V, the rows of R where learnt, and the state at each segment's start.
  const int64_t segments = call.steps ? (call.steps + call.segment - 1) / call.segment : 0;
  C* const v = static_cast<C*>(scratch) + kTile;
  C* const r = kLearns ? v + call.segment * kTile : nullptr;
  State<V>* const starts = reinterpret_cast<State<V>*>((kLearns ? r : v) + call.segment * kTile);
  for (int64_t s = 0; s + 1 < segments; ++s) {
    for (int k = 0; k < n; ++k) starts[s * n + k] = tile.state[k];
    recompute<IO, kSurrogate, kSmooth>(tile, current, grad_out, s * call.segment, (s + 1) * call.segment, nullptr,
                                       nullptr);
  }
  for (int64_t s = segments - 1; s >= 0; --s) {
    const int64_t begin = s * call.segment;
    const int64_t end = begin + call.segment < call.steps ? begin + call.segment : call.steps;
    if (s + 1 < segments) {
      for (int k = 0; k < n; ++k) tile.state[k] = starts[s * n + k];
    }
    for (int k = 0; k < n; ++k) store(v - kTile + k * kLanes<C>, tile.state[k].v);
    recompute<IO, kSurrogate, kSmooth>(tile, current, grad_out, begin, end, v, r);
    reverse<IO, kSurrogate, kResetGrad, kLearns>(call, tile, g, current, grad_out, grad_current, begin, end,
                                                 begin > 0 ? begin - call.segment : 0, v, r);
  }

  if (call.grad_current.constant && call.grad_current.data) {
    for (int k = 0; k < n; ++k) store(grad_current.row(0) + k * kLanes<C>, g.current[k]);
    grad_current.commit(0);
  }
  save<C>(call.grad_v, first, count, [&](int k) { return g.adjoint[k].v; });
  save<C>(call.grad_r, first, count, [&](int k) { return g.adjoint[k].r; });
  const auto save_partial = [&](void* partial, auto get) {
    hnn::PerNeuron operand;
    operand.data = partial;
    operand.layout.dims = 1;
    operand.layout.size[0] = call.neurons;
    operand.layout.stride[0] = 1;
    save<C>(operand, first, count, get);
  };
  save_partial(call.partial_decay, [&](int k) { return g.sum[k].decay; });
  save_partial(call.partial_reset_decay, [&](int k) { return g.sum[k].reset_decay; });
  save_partial(call.partial_threshold, [&](int k) { return g.sum[k].threshold; });
}

// -- from run-time options to one of the functions above ----------------------------------------------------------------

template <bool kValue>
struct Bool {
  static constexpr bool value = kValue;
};
template <int kValue>
struct Int {
  static constexpr int value = kValue;
};
template <class F>
void choose(bool x, F f) {
  x ? f(Bool<true>{}) : f(Bool<false>{});
}
template <class F>
void choose_surrogate(int number, F f) {
  switch (number) {
    default: return f(Int<kGaussian>{});
  }
}
template <class F>
void choose_reset_grad(int x, F f) {
  switch (x) {
    case kOneStep: return f(Int<kOneStep>{});
    case kDetach: return f(Int<kDetach>{});
    default: return f(Int<kFull>{});
  }
}
template <class T>
struct Type {
  using type = T;
};
template <class F>
void choose_dtype(hnn::DType dtype, F f) {
  switch (dtype) {
    case hnn::kFloat64: return f(Type<double>{});
    case hnn::kFloat32: return f(Type<float>{});
    case hnn::kBFloat16: return f(Type<BFloat16>{});
    case hnn::kFloat16: return f(Type<Float16>{});
  }
}
HNN_INLINE int tile_size(int64_t neurons, int64_t first) {
  return neurons - first < kTile ? static_cast<int>(neurons - first) : kTile;
}

void forward(const hnn::ForwardCall& call, int64_t begin, int64_t end) {
  choose_dtype(call.dtype, [&](auto io) {
    choose_surrogate(call.surrogate, [&](auto surrogate) {
      choose(call.smooth, [&](auto smooth) {
        for (int64_t m = begin * kTile; m < end * kTile; m += kTile) {
          forward_tile<typename decltype(io)::type, decltype(surrogate)::value, decltype(smooth)::value>(
              call, m, tile_size(call.neurons, m));
        }
      });
    });
  });
  HNN_STREAM_FENCE();
}

void backward(const hnn::BackwardCall& call, void* scratch, int64_t begin, int64_t end) {
  choose_dtype(call.dtype, [&](auto io) {
    choose_surrogate(call.surrogate, [&](auto surrogate) {
      choose(call.smooth, [&](auto smooth) {
        choose_reset_grad(call.reset_grad, [&](auto reset_grad) {
          choose(call.learns(), [&](auto learns) {
            for (int64_t m = begin * kTile; m < end * kTile; m += kTile) {
              backward_tile<typename decltype(io)::type, decltype(surrogate)::value, decltype(smooth)::value,
                            decltype(reset_grad)::value, decltype(learns)::value>(call, scratch, m,
                                                                                  tile_size(call.neurons, m));
            }
          });
        });
      });
    });
  });
  HNN_STREAM_FENCE();
}

}  // namespace HNN_NAMESPACE
