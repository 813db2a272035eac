// The stages of a layer over a block of steps: the filters, the membrane, and their adjoints. Each leads a tile of
// kTile neurons through up to kBlock rows with its state in registers. The rows that it hands to the next stage stay in
// the L1 cache. So options add up instead of multiplying. Rows come by reference and are copied inside: a copy in the
// caller, of members that were just written, would wait for them to leave the store buffer.
//
// Included by body.inl, after ../neuron.h.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

// -- membrane ---------------------------------------------------------------------------------------------------------

template <class C>
struct Membrane {
  static constexpr int n = kVectors<C>;
  Coefficients<Vector<C>> c[n];
  State<Vector<C>> state[n];
  Adjoint<Vector<C>> adjoint[n];
  Coefficients<Vector<C>> sum[n];  // the coefficients' gradients
  Extent<Vector<C>> extent;
  Options options;
};

// The rows that the membrane leaves for its adjoint, where wanted: V[t], its spike, and the state before step t.
template <class C>
struct Trace {
  Rows<C> v, spike;
#define HNN_DECLARE(name, Name) Rows<C> before_##name;
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE

#define HNN_FROM(name, Name) before_##name.from(t),
  Trace from(int64_t t) const { return {v.from(t), spike.from(t), HNN_STATES(HNN_FROM)}; }
#undef HNN_FROM
};

// The vectors of a row that go through time together: enough to hide the latency of the recursion, few enough for the
// registers, of which AVX-512 has twice as many. The membrane alone needs few registers, a filter or learning more.
template <class C>
constexpr int kGroup = kVectors<C> < 4 ? kVectors<C> : 4;
template <class C>
constexpr int kWideGroup = HNN_VECTOR_BYTES < 64 ? kGroup<C>
                           : kVectors<C> < 8     ? kVectors<C>
                                                 : 8;
// The rows of large trains go through time whole: the memory gives and takes a row faster than its quarters, which is
// worth more than the registers that the state then leaves for the L1 cache. Not so beside a filter, and where rows are
// written by blocks.
template <class C>
constexpr int kWholeRow = kByBlocks ? kGroup<C> : kVectors<C>;

// A filter over one tile. Its arrays, [coefficient or value of history][vector], are in scratch.
template <class C>
struct Filter {
  int feedback = 0, feedforward = 0;
  Vector<C>*coefficients = nullptr, *history = nullptr, *adjoint = nullptr, *sum = nullptr;

  int taps() const { return feedback + feedforward + 1; }
  int depth() const { return feedback + feedforward; }
  // The values of vector k in one of the arrays.
  struct Column {
    Vector<C>* at;
    HNN_INLINE Vector<C>& operator[](int i) const { return at[i * kVectors<C>]; }
  };
  HNN_INLINE Column column(Vector<C>* array, int k) const { return {array + k}; }
};

// The part of a filter of constant orders for one group of vectors, in registers. `memory` is its history or its
// adjoint. kP < 0 is no filter.
template <class C, int kP, int kQ, int g = kGroup<C>>
struct Held {
  static constexpr int taps = kP < 0 ? 0 : kP + kQ + 1, depth = kP < 0 ? 0 : kP + kQ, n = kVectors<C>;
  Vector<C> c[g][taps + 1], memory[g][depth + 1];

  HNN_INLINE Held(const Filter<C>& f, const Vector<C>* from, int first) {
    unrolled<g>([&](auto k) HNN_LAMBDA {
      unrolled<taps>([&](auto i) HNN_LAMBDA { c[k][i] = f.coefficients[i * n + first + k]; });
      unrolled<depth>([&](auto i) HNN_LAMBDA { memory[k][i] = from[i * n + first + k]; });
    });
  }
  HNN_INLINE void put_back(Vector<C>* to, int first) const {
    unrolled<g>([&](auto k)
                    HNN_LAMBDA { unrolled<depth>([&](auto i) HNN_LAMBDA { to[i * n + first + k] = memory[k][i]; }); });
  }
};

// The rows that membrane_forward writes: the spikes alone, V alone, or all rows that it is given. It is a template
// argument, because a branch for each vector would cost time.
enum Writes { kSpikes, kPotential, kGiven };

// How a neuron fires: from the threshold on, above it, or as the smooth step.
enum Fires { kFromThreshold, kAbove, kSmoothly, kWaysToFire };  // the last counts them
inline int fires(const Options& o) { return o.smooth ? kSmoothly : o.tie_fires ? kFromThreshold : kAbove; }

// With kP >= 0 the axon of these orders is computed in the same loop, and its output goes to `spikes`; all coefficients
// are then the same for all neurons. The options that are not constants here are for proofs and not for speed.
template <class C, int kReset, int kFires, int kWrites, int g = kWideGroup<C>, int kP = -1, int kQ = 0>
void membrane_forward(Membrane<C>& m, const Filter<C>& axon, const Rows<C>& of_current, const Rows<C>& to_spikes,
                      const Trace<C>& trace, int64_t steps, const Ahead& then) {
  using V = Vector<C>;
  const Extent<V> extent = m.extent;
  Options options = m.options;
  options.reset = kReset;
  options.smooth = kFires == kSmoothly;
  options.tie_fires = kFires != kAbove;
  const Rows<C> current = of_current, spikes = to_spikes;
  const Trace<C> to = trace;
  Ahead ahead = then;
  for (int first = 0; first < kVectors<C>; first += g) {
    // Local copies, to which nothing points, stay in registers.
    State<V> state[g];
    const Coefficients<V>* const c = m.c + first;
    unrolled<g>([&](auto k) HNN_LAMBDA { state[k] = m.state[first + k]; });
    Held<C, kP, kQ, g> filter(axon, axon.history, first);
    for (int64_t t = 0; t < steps; ++t) {
      ahead.next();
      unrolled<g>([&](auto k) HNN_LAMBDA {
        constexpr int own = kP < 0 ? k : 0;
        const int at = first + k;
#define HNN_KEEP(name, Name) \
  if (kWrites == kGiven && to.before_##name) to.before_##name.set(t, at, state[k].name);
        HNN_STATES(HNN_KEEP)
#undef HNN_KEEP
        V v;
        V spike = forward_step(options, state[k], current.get(t, at), c[own], extent, v);
        if constexpr (kP >= 0) spike = filter_step(kP, kQ, filter.memory[k], spike, filter.c[own]);
        if (kWrites == kSpikes || (kWrites == kGiven && spikes)) spikes.put(t, at, spike);
        if (kWrites == kPotential || (kWrites == kGiven && to.v)) to.v.set(t, at, v);
        if (kWrites == kGiven && to.spike) to.spike.set(t, at, spike);
      });
    }
    ahead = {};
    filter.put_back(axon.history, first);
    unrolled<g>([&](auto k) HNN_LAMBDA { m.state[first + k] = state[k]; });
  }
}

// The extent of the surrogate for a pack of vectors.
template <int b, class C>
HNN_INLINE Extent<Pack<Vector<C>, b>> extent_of(const Membrane<C>& m) {
  return {pack_of<b>(m.extent.inverse_width), pack_of<b>(m.extent.scale)};
}

// P'(V - V_th), which membrane_backward computes itself only where that is the default and pays.
template <class C, int kSurrogate>
void density_rows(const Membrane<C>& m, const Rows<C>& of_v, const Rows<C>& to_result, int64_t steps) {
  constexpr int g = kGroup<C>;
  const Rows<C> v = of_v, result = to_result;
  const auto extent = extent_of<g>(m);
  Options options = m.options;
  options.surrogate = kSurrogate;
  for (int first = 0; first < kVectors<C>; first += g) {
    Pack<Vector<C>, g> threshold, distance;
    unrolled<g>([&](auto k) HNN_LAMBDA { threshold.at[k] = m.c[first + k].threshold; });
    for (int64_t t = 0; t < steps; ++t) {
      unrolled<g>([&](auto k) HNN_LAMBDA { distance.at[k] = v.get(t, first + k); });
      const Pack<Vector<C>, g> slopes = slope(options, distance - threshold, extent, threshold);
      unrolled<g>([&](auto k) HNN_LAMBDA { result.set(t, first + k, slopes.at[k]); });
    }
  }
}

constexpr int kFromRows = -1;
// The way that gradients take through the reset is an option, and so is the potential's own gradient.
constexpr int kAnyGrad = -1;

// The vectors whose densities are computed in step. Only AVX2 gains by it.
template <int g>
constexpr int kInStep = HNN_VECTOR_BYTES == 32 && g % 4 == 0 ? 4 : 1;

// With kP >= 0 the axon's adjoint is computed in the same loop, and `grads` are those of its output; all coefficients
// are then the same for all neurons. Where the potential is a result, kResetGrad is kAnyGrad.
template <class C, int kReset, int kResetGrad, bool kLearns, int kSurrogate,
          int g = kLearns ? kGroup<C> : kWideGroup<C>, int kP = -1, int kQ = 0>
void membrane_backward(Membrane<C>& m, const Filter<C>& axon, const Rows<C>& of_grads, const Rows<C>& of_potentials,
                       const Rows<C>& of_densities, const Rows<C>& to_grad_current, const Trace<C>& trace,
                       int64_t steps, const Ahead& then) {
  using V = Vector<C>;
  constexpr int b = kInStep<g>;
  const auto extent = extent_of<b>(m);
  Options options = m.options;
  options.reset = kReset;
  if (kResetGrad != kAnyGrad) {
    options.reset_grad = kResetGrad;
    options.potential = kPotentialNone;
  }
  options.surrogate = kSurrogate;
  const Rows<C> grads = of_grads, potentials = of_potentials, densities = of_densities;
  const Rows<C> grad_current = to_grad_current;
  const Trace<C> of = trace;
  Ahead ahead = then;
  for (int first = 0; first < kVectors<C>; first += g) {
    Adjoint<V> adjoint[g];
    Coefficients<V> sum[kLearns ? g : 1];
    const Coefficients<V>* const c = m.c + first;
    unrolled<g>([&](auto k) HNN_LAMBDA {
      adjoint[k] = m.adjoint[first + k];
      if constexpr (kLearns) sum[k] = m.sum[first + k];
    });
    Held<C, kP, kQ, g> filter(axon, axon.adjoint, first);
    for (int64_t t = steps - 1; t >= 0; --t) {
      ahead.next();
      unrolled<g / b>([&](auto j) HNN_LAMBDA {
        constexpr int from = j * b;
        Pack<V, b> slopes, threshold;
        unrolled<b>([&](auto i) HNN_LAMBDA {
          constexpr int own = kP < 0 ? from + i : 0;
          const int at = first + from + i;
          threshold.at[i] = c[own].threshold;
          slopes.at[i] = kSurrogate == kFromRows ? densities.get(t, at) : of.v.get(t, at) - c[own].threshold;
        });
        if constexpr (kSurrogate != kFromRows) slopes = slope(options, slopes, extent, threshold);
        unrolled<b>([&](auto i) HNN_LAMBDA {
          constexpr int k = from + i, own = kP < 0 ? k : 0;
          const int at = first + k;
          V grad_spike = grads.get(t, at);
          if constexpr (kP >= 0) {
            V grad_filtered = grad_spike;
            grad_spike = filter_backward_step(kP, kQ, filter.memory[k], grad_filtered, filter.c[own]);
          }
          const Adjoint<V> after = adjoint[k];
          const V v = kReset == kZero ? of.v.get(t, at) : V{};
          const V grad_v = options.potential != kPotentialNone ? potentials.get(t, at) : V{};
          const V spike = kReset == kZero || (kLearns && kReset == kSubtract) ? of.spike.get(t, at) : V{};
          V through_spike;
          const V grad =
              backward_step(options, adjoint[k], grad_spike, grad_v, slopes.at[i], v, spike, c[own], through_spike);
          if constexpr (kLearns) {
#define HNN_READ(name, Name) accumulate_reads(options).name ? of.before_##name.get(t, at) : V{},
            const State<V> before{HNN_STATES(HNN_READ)};
#undef HNN_READ
            accumulate(options, sum[k], grad, through_spike, spike, after, before);
          }
          grad_current.put(t, at, grad);
        });
      });
    }
    ahead = {};
    filter.put_back(axon.adjoint, first);
    unrolled<g>([&](auto k) HNN_LAMBDA {
      m.adjoint[first + k] = adjoint[k];
      if constexpr (kLearns) m.sum[first + k] = sum[k];
    });
  }
}

// -- filter -----------------------------------------------------------------------------------------------------------

// A filter's history before step t, read from its trains.
template <class C>
struct History {
  Rows<C> x, y;
  int64_t t;
  int k, feedback;
  HNN_INLINE Vector<C> operator[](int i) const {
    return i < feedback ? y.get(t - 1 - i, k) : x.get(t - 1 - (i - feedback), k);
  }
};

// With orders known at compile time, coefficients and history are in registers, and with kShared the coefficients are
// the same for all neurons. With kP < 0 both stay in scratch. `y` may be `x`.
template <class C, int kP, int kQ, bool kShared>
void filter_forward(const Filter<C>& f, const Rows<C>& of_x, const Rows<C>& to_y, int64_t steps, const Ahead& then) {
  constexpr int n = kVectors<C>;
  const Rows<C> x = of_x, y = to_y;
  Ahead ahead = then;
  if constexpr (kP >= 0) {
    for (int first = 0; first < n; first += kGroup<C>) {
      Held<C, kP, kQ> held(f, f.history, first);
      for (int64_t t = 0; t < steps; ++t) {
        ahead.next();
        unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
          constexpr int own = kShared ? 0 : k;
          y.put(t, first + k, filter_step(kP, kQ, held.memory[k], x.get(t, first + k), held.c[own]));
        });
      }
      ahead = {};
      held.put_back(f.history, first);
    }
  } else {
    for (int64_t t = 0; t < steps; ++t) {
      ahead.next();
      for (int k = 0; k < n; ++k) {
        y.put(t, k,
              filter_step(f.feedback, f.feedforward, f.column(f.history, k), x.get(t, k), f.column(f.coefficients, k)));
      }
    }
  }
}

// `x` and `y` are the filter's trains, with the history before step 0 at negative rows; read only to learn.
template <class C, int kP, int kQ, bool kLearns>
void filter_backward(const Filter<C>& f, const Rows<C>& of_grad_y, const Rows<C>& to_grad_x, const Rows<C>& of_x,
                     const Rows<C>& of_y, int64_t steps, const Ahead& then) {
  using V = Vector<C>;
  constexpr int n = kVectors<C>;
  const Rows<C> grad_y = of_grad_y, grad_x = to_grad_x, x = of_x, y = of_y;
  Ahead ahead = then;
  if constexpr (kP >= 0) {
    constexpr int kTaps = kP + kQ + 1;
    for (int first = 0; first < n; first += kGroup<C>) {
      Held<C, kP, kQ> held(f, f.adjoint, first);
      V sum[kGroup<C>][kTaps];
      unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
        if constexpr (kLearns) unrolled<kTaps>([&](auto i) HNN_LAMBDA { sum[k][i] = f.sum[i * n + first + k]; });
      });
      for (int64_t t = steps - 1; t >= 0; --t) {
        ahead.next();
        unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
          V grad = grad_y.get(t, first + k);
          const V result = filter_backward_step(kP, kQ, held.memory[k], grad, held.c[k]);
          if constexpr (kLearns) {
            const History<C> before{x, y, t, first + k, kP};
            filter_accumulate(kP, kQ, sum[k], grad, x.get(t, first + k), before);
          }
          grad_x.put(t, first + k, result);
        });
      }
      ahead = {};
      held.put_back(f.adjoint, first);
      unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
        if constexpr (kLearns) unrolled<kTaps>([&](auto i) HNN_LAMBDA { f.sum[i * n + first + k] = sum[k][i]; });
      });
    }
  } else {
    for (int64_t t = steps - 1; t >= 0; --t) {
      ahead.next();
      for (int k = 0; k < n; ++k) {
        V grad = grad_y.get(t, k);
        const V result =
            filter_backward_step(f.feedback, f.feedforward, f.column(f.adjoint, k), grad, f.column(f.coefficients, k));
        if constexpr (kLearns) {
          const History<C> before{x, y, t, k, f.feedback};
          filter_accumulate(f.feedback, f.feedforward, f.column(f.sum, k), grad, x.get(t, k), before);
        }
        grad_x.put(t, k, result);
      }
    }
  }
}

}  // namespace HNN_NAMESPACE
