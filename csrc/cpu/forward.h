// A tile of neurons through all steps, forward, block by block through the stages.

namespace HNN_NAMESPACE {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// The stages of a call, as functions (choose.h).
template <class C>
struct Stages {
  decltype(&membrane_forward<C, kFilter, false>) membrane_forward, recompute;
  decltype(&density_rows<C, kGaussian>) density;  // null where membrane_backward computes it itself
  decltype(&membrane_backward<C, kFilter, kFull, false, kFromRows>) membrane_backward;
  bool fused_axon = false;  // the axon goes with the membrane, but for a recomputation, which needs none of it
  struct {
    decltype(&filter_forward<C, 0, 0>) forward;
    decltype(&filter_backward<C, 0, 0, false>) backward;
  } synapse, axon;
};

// Scratch, handed out from front to back.
template <class C>
class Arena {
 public:
  explicit Arena(void* memory) : next_(static_cast<Vector<C>*>(memory)) {}
  Vector<C>* take(int64_t vectors) {
    Vector<C>* const at = next_;
    next_ += vectors;
    return at;
  }
  // Rows for steps [-before, steps).
  Rows<C> rows(int64_t steps, int64_t before = 0) {
    return Rows<C>{reinterpret_cast<C*>(take((steps + before) * kVectors<C>))}.from(before);
  }

 private:
  Vector<C>* next_;
};

// kTile values of a dense array [neurons].
inline hnn::PerNeuron dense(void* data, const hnn::Call& call) {
  hnn::PerNeuron operand;
  operand.data = data;
  operand.layout.dims = 1;
  operand.layout.size[0] = call.neurons;
  operand.layout.stride[0] = 1;
  return operand;
}
template <class C, class Get>
HNN_INLINE void save(const hnn::PerNeuron& operand, int64_t first, int count, Get get) {
  Vector<C> row[kVectors<C>];
  for (int k = 0; k < kVectors<C>; ++k) row[k] = get(k);
  scatter<C>(operand, first, count, row);
}

inline int64_t filter_vectors(const hnn::FilterCall& f, int vectors) {
  return f.present ? static_cast<int64_t>(vectors) * 2 * (f.taps() + f.depth()) : 0;
}

// A tile's layer: the membrane and the filters with their coefficients and states, and nothing learnt.
template <class C>
struct Layer {
  static constexpr int n = kVectors<C>;
  const hnn::Call& call;
  const int64_t first;
  const int count;
  Membrane<C> membrane;
  Filter<C> synapse, axon;

  Layer(const hnn::Call& layer, int64_t first_neuron, int neurons, Arena<C>& arena)
      : call(layer), first(first_neuron), count(neurons) {
    membrane.inverse_width = broadcast<Vector<C>>(call.inverse_width);
    if (call.reset != kNoMembrane) {
      Vector<C> row[n];
      const auto each = [&](const hnn::PerNeuron& operand, auto set) {
        gather<C>(operand, first, count, row);
        for (int k = 0; k < n; ++k) set(k, row[k]);
      };
      each(call.decay, [&](int k, Vector<C> x) { membrane.c[k].decay = x; });
      each(call.reset_decay, [&](int k, Vector<C> x) { membrane.c[k].reset_decay = x; });
      each(call.threshold, [&](int k, Vector<C> x) { membrane.c[k].threshold = x; });
      each(call.v, [&](int k, Vector<C> x) { membrane.state[k].v = x; });
      each(call.r, [&](int k, Vector<C> x) { membrane.state[k].r = x; });
    }
    load(synapse, call.synapse, arena);
    load(axon, call.axon, arena);
  }

  // f(value, i) for each of the state's values, v, r and the histories: the order of a checkpoint.
  template <class F>
  HNN_INLINE void each_state(F f) {
    int i = 0;
    Vector<C> row[n];
    for (int k = 0; k < n; ++k) row[k] = membrane.state[k].v;
    f(row, i++);
    for (int k = 0; k < n; ++k) membrane.state[k].v = row[k], row[k] = membrane.state[k].r;
    f(row, i++);
    for (int k = 0; k < n; ++k) membrane.state[k].r = row[k];
    for (int j = 0; j < synapse.depth(); ++j) f(synapse.history + j * n, i++);
    for (int j = 0; j < axon.depth(); ++j) f(axon.history + j * n, i++);
  }
  void* checkpoint(int64_t window, int value) const {
    return static_cast<C*>(call.checkpoints) + ((window - 1) * call.state_depth() + value) * call.neurons;
  }

 private:
  void load(Filter<C>& f, const hnn::FilterCall& from, Arena<C>& arena) {
    if (!from.present) return;
    f.feedback = from.feedback;
    f.feedforward = from.feedforward;
    f.coefficients = arena.take(f.taps() * n);
    f.sum = arena.take(f.taps() * n);
    f.history = arena.take(f.depth() * n);
    f.adjoint = arena.take(f.depth() * n);
    for (int i = 0; i < f.taps(); ++i) gather<C>(from.coefficients[i], first, count, f.coefficients + i * n);
    for (int i = 0; i < f.depth(); ++i) gather<C>(from.history[i], first, count, f.history + i * n);
  }
};

// Steps of a block: `length` cut evenly into blocks of at most kBlock.
inline int64_t block_steps(int64_t length) {
  const int64_t blocks = (length + kBlock - 1) / kBlock;
  return blocks ? (length + blocks - 1) / blocks : 1;
}

template <class IO, class C = Compute<IO>>
void forward_tile(const hnn::Call& call, const Stages<C>& stages, void* scratch, int64_t first, int count) {
  constexpr int n = kVectors<C>;
  Arena<C> arena(scratch);
  Layer<C> layer(call, first, count, arena);
  const Rows<C> filtered = arena.rows(kBlock), spikes = arena.rows(kBlock);
  Reader<IO> current(call.current, first, count);
  Writer<IO> out(call.out, first, count);
  Vector<C> total[n] = {};
  for (int64_t begin = 0; begin < call.steps; begin += call.window) {
    const int64_t end = least(begin + call.window, call.steps), block = block_steps(end - begin);
    if (begin > 0) {
      layer.each_state([&](Vector<C>* value, int i) {
        scatter<C>(dense(layer.checkpoint(begin / call.window, i), call), first, count, value);
      });
    }
    for (int64_t t = begin; t < end; t += block) {
      const int64_t steps = least(block, end - t);
      // The next block, or the next tile's first.
      const int64_t next = t + block;
      Ahead ahead = next < call.steps ? current.ahead(next, 1, false) : current.ahead(0, 1, true);
      Rows<C> input = current.rows(t, steps);
      const Rows<C> target = call.out.constant ? spikes : out.rows(t);
      if (call.synapse.present) {
        const bool last = call.reset == kNoMembrane;
        stages.synapse.forward(layer.synapse, input, last ? target : filtered, steps, ahead);
        ahead = {};
        input = filtered;
      }
      if (call.reset != kNoMembrane) {
        const bool apart = call.axon.present && !stages.fused_axon;
        stages.membrane_forward(layer.membrane, call.surrogate, layer.axon, input, apart ? spikes : target, {}, steps,
                                ahead);
      }
      if (call.axon.present && !stages.fused_axon) stages.axon.forward(layer.axon, spikes, target, steps, {});
      if (call.out.constant) {
        for (int64_t i = 0; i < steps; ++i) {
          for (int k = 0; k < n; ++k) total[k] = total[k] + spikes.get(i, k);
        }
      } else {
        out.commit(t, steps);
      }
    }
  }
  if (call.out.constant) {
    const Rows<C> row = out.rows(0);
    for (int k = 0; k < n; ++k) row.set(0, k, total[k]);
    out.commit(0, 1);
  }
  save<C>(call.last_v, first, count, [&](int k) { return layer.membrane.state[k].v; });
  save<C>(call.last_r, first, count, [&](int k) { return layer.membrane.state[k].r; });
  const auto save_history = [&](const hnn::FilterCall& to, const Filter<C>& f) {
    for (int i = 0; i < f.depth(); ++i) scatter<C>(to.last_history[i], first, count, f.history + i * n);
  };
  save_history(call.synapse, layer.synapse);
  save_history(call.axon, layer.axon);
}

template <class C>
int64_t forward_scratch_bytes(const hnn::Call& call) {
  constexpr int n = kVectors<C>;
  return HNN_VECTOR_BYTES * (filter_vectors(call.synapse, n) + filter_vectors(call.axon, n) + 2 * kBlock * n);
}

}  // namespace HNN_NAMESPACE
