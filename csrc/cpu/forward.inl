// Leads tile after tile of neurons forward through all steps, block by block through the stages.
//
// Included by body.inl, after stages.inl.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

// The stages of a call, as functions (choose.inl).
template <class C>
struct Stages {
  // Forward; the same for the rows that backward keeps; and the same for the state alone.
  decltype(&membrane_forward<C, kFilter, kFromThreshold, kSpikes>) membrane_forward, recompute, advance;
  decltype(&density_rows<C, kGaussian>) density;  // null where membrane_backward computes it itself
  decltype(&membrane_backward<C, kFilter, kFull, false, kFromRows>) membrane_backward;
  // The axon is in the membrane's loop. (A recomputation needs no axon.)
  bool axon_in_forward = false, axon_in_backward = false;
  struct {
    decltype(&filter_forward<C, 0, 0, false>) forward;
    decltype(&filter_backward<C, 0, 0, false>) backward;
  } synapse, axon;
};

inline int64_t filter_vectors(const hnn::FilterCall& f, int vectors) {
  return f.present ? static_cast<int64_t>(vectors) * 2 * (f.taps() + f.depth()) : 0;
}

// The layer of one tile after another: the membrane and the filters, with their coefficients and states. It learns
// nothing.
template <class C>
struct Layer {
  static constexpr int n = kVectors<C>;
  const hnn::Call& call;
  int64_t first = 0;
  int count = 0;
  Membrane<C> membrane;
  Filter<C> synapse, axon;

  Layer(const hnn::Call& layer, Arena<C>& arena) : call(layer) {
    membrane.options = call;
    membrane.extent = {broadcast<Vector<C>>(call.inverse_width), broadcast<Vector<C>>(call.scale)};
    allocate(synapse, call.synapse, arena);
    allocate(axon, call.axon, arena);
    each_coefficient([&](const hnn::PerNeuron& operand, auto set) {
      if (is_absent_or_one(operand)) gather<C>(operand, 0, 0, set);
    });
  }

  // Loads the state of this tile's neurons before the first step, and the coefficients that differ between neurons.
  void move_to(int64_t first_neuron, int neurons) {
    first = first_neuron;
    count = neurons;
    each_coefficient([&](const hnn::PerNeuron& operand, auto set) {
      if (!is_absent_or_one(operand)) gather<C>(operand, first, count, set);
    });
    if (call.reset != kNoMembrane) {
#define HNN_LOAD(name, Name) \
  gather<C>(call.name, first, count, [&](int k, Vector<C> x) { membrane.state[k].name = x; });
      HNN_STATES(HNN_LOAD)
#undef HNN_LOAD
    }
    load_history(synapse, call.synapse);
    load_history(axon, call.axon);
  }

  // Calls f(value, i) for each value of the state: the membrane's, then the histories, in the order of a checkpoint.
  template <class F>
  HNN_INLINE void each_state(F f) {
    int i = 0;
    Vector<C> row[n];
#define HNN_VISIT(name, Name)                                  \
  for (int k = 0; k < n; ++k) row[k] = membrane.state[k].name; \
  f(row, i++);                                                 \
  for (int k = 0; k < n; ++k) membrane.state[k].name = row[k];
    HNN_STATES(HNN_VISIT)
#undef HNN_VISIT
    for (int j = 0; j < synapse.depth(); ++j) f(synapse.history + j * n, i++);
    for (int j = 0; j < axon.depth(); ++j) f(axon.history + j * n, i++);
  }
  hnn::PerNeuron checkpoint(int64_t window, int value) const {
    C* const all = static_cast<C*>(call.checkpoints);
    return hnn::PerNeuron::dense(all + ((window - 1) * call.state_depth() + value) * call.neurons, call.neurons);
  }

 private:
  static void allocate(Filter<C>& f, const hnn::FilterCall& from, Arena<C>& arena) {
    if (!from.present) return;
    f.feedback = from.feedback;
    f.feedforward = from.feedforward;
    f.coefficients = arena.take(f.taps() * n);
    f.sum = arena.take(f.taps() * n);
    f.history = arena.take(f.depth() * n);
    f.adjoint = arena.take(f.depth() * n);
  }
  template <class F>
  HNN_INLINE void each_coefficient(F f) {
    if (call.reset != kNoMembrane) {
#define HNN_VISIT(name, Name) f(call.name, [&](int k, Vector<C> x) { membrane.c[k].name = x; });
      HNN_COEFFICIENTS(HNN_VISIT)
#undef HNN_VISIT
    }
    const auto taps = [&](const Filter<C>& filter, const hnn::FilterCall& from) {
      if (!from.present) return;
      for (int i = 0; i < filter.taps(); ++i) {
        f(from.coefficients[i], [&](int k, Vector<C> x) { filter.coefficients[i * n + k] = x; });
      }
    };
    taps(synapse, call.synapse);
    taps(axon, call.axon);
  }
  void load_history(const Filter<C>& f, const hnn::FilterCall& from) {
    for (int i = 0; i < f.depth(); ++i) {
      gather<C>(from.history[i], first, count, [&](int k, Vector<C> x) { f.history[i * n + k] = x; });
    }
  }
};

template <class IO, class C = Compute<IO>>
class Forward {
  static constexpr int n = kVectors<C>;

 public:
  Forward(const hnn::Call& call, const Stages<C>& stages, Arena<C> arena)
      : call_(call),
        stages_(stages),
        layer_(call, arena),
        filtered_(arena.rows(kBlock)),
        spikes_(arena.rows(kBlock)),
        potentials_(arena.rows(kBlock)),
        current_(call.current),
        out_(call.out),
        potential_(call.potential_out) {}

  void tile(int64_t first, int count) {
    layer_.move_to(first, count);
    current_.move_to(first, count);
    out_.move_to(first, count);
    potential_.move_to(first, count);
    if (call_.out.constant) std::fill(total_, total_ + n, Vector<C>{});
    for (int64_t begin = 0; begin < call_.steps; begin += call_.window) {
      if (begin > 0) {
        layer_.each_state([&](Vector<C>* value, int i) {
          scatter<C>(layer_.checkpoint(begin / call_.window, i), first, count, [&](int k) { return value[k]; });
        });
      }
      const int64_t end = least(begin + call_.window, call_.steps), block = block_steps(end - begin);
      for (int64_t t = begin; t < end; t += block) through(t, least(block, end - t), t + block);
    }
    if (call_.out.constant) write_row(out_, total_);
    if (call_.potential_out.constant) {
      const Vector<C> steps = broadcast<Vector<C>>(static_cast<double>(call_.steps));
      for (int k = 0; call_.potential == kPotentialMean && k < n; ++k) read_[k] = read_[k] / steps;
      write_row(potential_, read_);
      scatter<C>(call_.peak, first, count, [&](int k) { return peak_[k]; });
    }
    save();
  }

 private:
  // A block of steps from t on; `next` is where the one after it begins.
  void through(int64_t t, int64_t steps, int64_t next) {
    Ahead ahead = current_.ahead_once(next, call_.steps);
    Rows<C> input = current_.rows(t, steps);
    const Rows<C> target = call_.out.constant || !call_.out.data ? spikes_ : out_.rows(t);
    if (call_.synapse.present) {
      const bool last = call_.reset == kNoMembrane;
      stages_.synapse.forward(layer_.synapse, input, last ? target : filtered_, steps, ahead);
      ahead = {};
      input = filtered_;
    }
    const bool axon_apart = call_.axon.present && !stages_.axon_in_forward;
    const Rows<C> fired = axon_apart && target.streaming ? spikes_ : target;
    if (call_.reset != kNoMembrane) {
      if (call_.potential == kPotentialNone) {
        stages_.membrane_forward(layer_.membrane, layer_.axon, input, fired, {}, steps, ahead);
      } else {
        Trace<C> trace;
        trace.v = call_.potential == kPotentialTrain ? potential_.rows(t) : potentials_;
        stages_.advance(layer_.membrane, layer_.axon, input, call_.out.data ? fired : Rows<C>{}, trace, steps, ahead);
        read(trace.v, t, steps);
      }
    }
    if (axon_apart) stages_.axon.forward(layer_.axon, fired, target, steps, {});
    if (call_.out.constant) {
      for (int64_t i = 0; i < steps; ++i) {
        for (int k = 0; k < n; ++k) total_[k] = total_[k] + spikes_.get(i, k);
      }
    } else {
      out_.commit(t, steps);
    }
  }

  // Reads the potentials of the steps from t on.
  void read(const Rows<C>& v, int64_t t, int64_t steps) {
    if (call_.potential == kPotentialTrain) return potential_.commit(t, steps);
    for (int k = 0; k < n; ++k) {
      if (t == 0) {
        read_[k] = v.get(0, k);
        peak_[k] = Vector<C>{};
      }
      if (call_.potential == kPotentialLast) read_[k] = v.get(steps - 1, k);
      for (int64_t i = t == 0; call_.potential == kPotentialMean && i < steps; ++i) read_[k] = read_[k] + v.get(i, k);
      for (int64_t i = t == 0; call_.potential == kPotentialMax && i < steps; ++i) {
        const Vector<C> now = v.get(i, k), best = read_[k];
        // NaN is larger than any number, and stays.
        const auto higher = (now > best) | ((now != now) & (best == best));
        read_[k] = higher ? now : best;
        peak_[k] = higher ? broadcast<Vector<C>>(static_cast<double>(t + i)) : peak_[k];
      }
    }
  }
  void write_row(Writer<IO>& to, const Vector<C>* values) {
    const Rows<C> row = to.rows(0);
    for (int k = 0; k < n; ++k) row.set(0, k, values[k]);
    to.commit(0, 1);
  }

  void save() {
#define HNN_SAVE(name, Name) \
  scatter<C>(call_.last_##name, layer_.first, layer_.count, [&](int k) { return layer_.membrane.state[k].name; });
    HNN_STATES(HNN_SAVE)
#undef HNN_SAVE
    save_history(call_.synapse, layer_.synapse);
    save_history(call_.axon, layer_.axon);
  }
  void save_history(const hnn::FilterCall& to, const Filter<C>& f) {
    for (int i = 0; i < f.depth(); ++i) {
      scatter<C>(to.last_history[i], layer_.first, layer_.count, [&](int k) { return f.history[i * n + k]; });
    }
  }

  const hnn::Call& call_;
  const Stages<C>& stages_;
  Layer<C> layer_;
  const Rows<C> filtered_, spikes_, potentials_;
  Reader<IO> current_;
  Writer<IO> out_, potential_;
  Vector<C> total_[n];           // of a count
  Vector<C> read_[n], peak_[n];  // of a read-out of the potential, and the step of its maximum
};

template <class C>
int64_t forward_scratch_bytes(const hnn::Call& call) {
  constexpr int n = kVectors<C>;
  return HNN_VECTOR_BYTES * (filter_vectors(call.synapse, n) + filter_vectors(call.axon, n) + 3 * kBlock * n);
}

}  // namespace HNN_NAMESPACE
