// The stages of a layer over a block of steps: the filters, the membrane, and their adjoints. Each takes a tile of
// kTile neurons through up to kBlock rows with its state in registers, and hands rows that stay in the L1 cache to the
// next, so options add up instead of multiplying.

namespace HNN_NAMESPACE {

// -- membrane ---------------------------------------------------------------------------------------------------------

template <class C>
struct Membrane {
  static constexpr int n = kVectors<C>;
  Coefficients<Vector<C>> c[n];
  State<Vector<C>> state[n];
  Adjoint<Vector<C>> adjoint[n];
  Coefficients<Vector<C>> sum[n];  // the coefficients' gradients
  Vector<C> inverse_width;
};

// What the membrane leaves behind for its adjoint, where asked: V[t], its spike, and the state before step t.
template <class C>
struct Trace {
  Rows<C> v, spike, before_v, before_r;

  Trace from(int64_t t) const { return {v.from(t), spike.from(t), before_v.from(t), before_r.from(t)}; }
};

// `surrogate` is read for kSmooth, which is for proofs and not for speed.
template <class C, int kReset, bool kSmooth>
void membrane_forward(Membrane<C>& m, int surrogate, Rows<C> current, Rows<C> spikes, const Trace<C>& trace,
                      int64_t steps, Ahead ahead) {
  using V = Vector<C>;
  constexpr int n = kVectors<C>;
  // Copies that nothing points to stay in registers.
  State<V> state[n];
  Coefficients<V> c[n];
  const V inverse_width = m.inverse_width;
  const Trace<C> to = trace;
  unrolled<n>([&](auto k) HNN_LAMBDA { state[k] = m.state[k], c[k] = m.c[k]; });
  for (int64_t t = 0; t < steps; ++t) {
    ahead.next();
    unrolled<n>([&](auto k) HNN_LAMBDA {
      if (to.before_v) to.before_v.set(t, k, state[k].v);
      if (to.before_r) to.before_r.set(t, k, state[k].r);
      V v;
      const V spike = forward_step(kReset, kSmooth, surrogate, state[k], current.get(t, k), c[k], inverse_width, v);
      if (spikes) spikes.set(t, k, spike);
      if (to.v) to.v.set(t, k, v);
      if (to.spike) to.spike.set(t, k, spike);
    });
  }
  unrolled<n>([&](auto k) HNN_LAMBDA { m.state[k] = state[k]; });
}

// P'(V - V_th), which membrane_backward computes itself only where that is the default and pays.
template <class C, int kSurrogate>
void density_rows(const Membrane<C>& m, Rows<C> v, Rows<C> result, int64_t steps) {
  constexpr int n = kVectors<C>;
  Vector<C> threshold[n];
  const Vector<C> inverse_width = m.inverse_width;
  unrolled<n>([&](auto k) HNN_LAMBDA { threshold[k] = m.c[k].threshold; });
  for (int64_t t = 0; t < steps; ++t) {
    unrolled<n>([&](auto k)
                    HNN_LAMBDA { result.set(t, k, density(kSurrogate, v.get(t, k) - threshold[k], inverse_width)); });
  }
}

constexpr int kFromRows = -1;

template <class C, int kReset, int kResetGrad, bool kLearns, int kSurrogate>
void membrane_backward(Membrane<C>& m, Rows<C> grad_spike, Rows<C> densities, Rows<C> grad_current,
                       const Trace<C>& trace, int64_t steps, Ahead ahead) {
  using V = Vector<C>;
  constexpr int n = kVectors<C>;
  Adjoint<V> adjoint[n];
  Coefficients<V> c[n], sum[n];
  const V inverse_width = m.inverse_width;
  const Trace<C> of = trace;
  unrolled<n>([&](auto k) HNN_LAMBDA { adjoint[k] = m.adjoint[k], c[k] = m.c[k], sum[k] = m.sum[k]; });
  for (int64_t t = steps - 1; t >= 0; --t) {
    ahead.next();
    unrolled<n>([&](auto k) HNN_LAMBDA {
      const Adjoint<V> after = adjoint[k];
      const V v = kReset == kZero || kSurrogate != kFromRows ? of.v.get(t, k) : V{};
      const V spike = kReset == kZero || (kLearns && kReset == kSubtract) ? of.spike.get(t, k) : V{};
      const V slope =
          kSurrogate == kFromRows ? densities.get(t, k) : density(kSurrogate, v - c[k].threshold, inverse_width);
      V through_spike;
      const V grad =
          backward_step(kReset, kResetGrad, adjoint[k], grad_spike.get(t, k), slope, v, spike, c[k], through_spike);
      if constexpr (kLearns) {
        const State<V> before{of.before_v.get(t, k), kReset == kFilter ? of.before_r.get(t, k) : V{}};
        accumulate(kReset, sum[k], grad, through_spike, spike, after, before);
      }
      grad_current.set(t, k, grad);
    });
  }
  unrolled<n>([&](auto k) HNN_LAMBDA { m.adjoint[k] = adjoint[k], m.sum[k] = sum[k]; });
}

// -- filter -----------------------------------------------------------------------------------------------------------

// A filter over one tile: arrays [coefficient or value of history][vector], in scratch.
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

// Vectors of a row that go through time together: enough to hide the recursion's latency, few enough for the registers.
template <class C>
constexpr int kGroup = kVectors<C> < 4 ? kVectors<C> : 4;

// With orders known at compile time, coefficients and history are registers; kP < 0 leaves both in scratch.
template <class C, int kP, int kQ>
void filter_forward(const Filter<C>& f, Rows<C> x, Rows<C> y, int64_t steps, Ahead ahead) {
  using V = Vector<C>;
  constexpr int n = kVectors<C>;
  if constexpr (kP >= 0) {
    constexpr int kTaps = kP + kQ + 1, kDepth = kP + kQ, kHeld = kDepth ? kDepth : 1;
    for (int first = 0; first < n; first += kGroup<C>) {
      V c[kGroup<C>][kTaps], history[kGroup<C>][kHeld];
      unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
        unrolled<kTaps>([&](auto i) HNN_LAMBDA { c[k][i] = f.coefficients[i * n + first + k]; });
        unrolled<kDepth>([&](auto i) HNN_LAMBDA { history[k][i] = f.history[i * n + first + k]; });
      });
      for (int64_t t = 0; t < steps; ++t) {
        ahead.next();
        unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
          y.set(t, first + k, filter_step(kP, kQ, history[k], x.get(t, first + k), c[k]));
        });
      }
      ahead = {};
      unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
        unrolled<kDepth>([&](auto i) HNN_LAMBDA { f.history[i * n + first + k] = history[k][i]; });
      });
    }
  } else {
    for (int64_t t = 0; t < steps; ++t) {
      ahead.next();
      for (int k = 0; k < n; ++k) {
        y.set(t, k,
              filter_step(f.feedback, f.feedforward, f.column(f.history, k), x.get(t, k), f.column(f.coefficients, k)));
      }
    }
  }
}

// `x` and `y` are the filter's trains, with the history before step 0 at negative rows; read only to learn.
template <class C, int kP, int kQ, bool kLearns>
void filter_backward(const Filter<C>& f, Rows<C> grad_y, Rows<C> grad_x, Rows<C> x, Rows<C> y, int64_t steps,
                     Ahead ahead) {
  using V = Vector<C>;
  constexpr int n = kVectors<C>;
  if constexpr (kP >= 0) {
    constexpr int kTaps = kP + kQ + 1, kDepth = kP + kQ, kHeld = kDepth ? kDepth : 1;
    for (int first = 0; first < n; first += kGroup<C>) {
      V c[kGroup<C>][kTaps], adjoint[kGroup<C>][kHeld], sum[kGroup<C>][kTaps];
      unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
        unrolled<kTaps>([&](auto i) HNN_LAMBDA { c[k][i] = f.coefficients[i * n + first + k]; });
        unrolled<kDepth>([&](auto i) HNN_LAMBDA { adjoint[k][i] = f.adjoint[i * n + first + k]; });
        if constexpr (kLearns) unrolled<kTaps>([&](auto i) HNN_LAMBDA { sum[k][i] = f.sum[i * n + first + k]; });
      });
      for (int64_t t = steps - 1; t >= 0; --t) {
        ahead.next();
        unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
          V grad = grad_y.get(t, first + k);
          const V result = filter_backward_step(kP, kQ, adjoint[k], grad, c[k]);
          if constexpr (kLearns) {
            const History<C> before{x, y, t, first + k, kP};
            filter_accumulate(kP, kQ, sum[k], grad, x.get(t, first + k), before);
          }
          grad_x.set(t, first + k, result);
        });
      }
      ahead = {};
      unrolled<kGroup<C>>([&](auto k) HNN_LAMBDA {
        unrolled<kDepth>([&](auto i) HNN_LAMBDA { f.adjoint[i * n + first + k] = adjoint[k][i]; });
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
        grad_x.set(t, k, result);
      }
    }
  }
}

}  // namespace HNN_NAMESPACE
