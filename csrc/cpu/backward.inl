// Leads tile after tile of neurons backward in time. The steps of a segment are computed forward again, and the values
// that their adjoints need are kept in scratch that stays in the L2 cache. Then the adjoints of the stages walk back
// through the segment, block by block. The two passes prefetch for each other. The recomputation has little work, and
// asks for the gradients that the way back reads next. The way back is long, and asks for the currents of the next
// recomputation.
//
// Included by body.inl, after forward.inl.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

// The rows that the recomputation of a segment leaves for its adjoints.
struct Kept {
  bool v, spike, synapse, axon;
#define HNN_DECLARE(name, Name) bool before_##name;
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE

  explicit Kept(const hnn::Call& call) {
    const bool immediate = call.reset == kSubtract || call.reset == kZero, learns = call.learns();
    v = call.reset != kNoMembrane;
    spike = call.reset == kZero || (call.reset == kSubtract && learns) || call.axon.learns;
#define HNN_KEEP(name, Name) before_##name = learns && accumulate_reads(call).name;
    HNN_STATES(HNN_KEEP)
#undef HNN_KEEP
    before_v &= immediate;  // else it is V of the step before
    synapse = call.synapse.learns;
    axon = call.axon.learns;
  }
  int befores() const {
    int count = 0;
#define HNN_ADD(name, Name) count += before_##name;
    HNN_STATES(HNN_ADD)
#undef HNN_ADD
    return count;
  }
  bool only_v() const { return v && !spike && !befores() && !axon; }  // of the membrane's
  int rows() const { return v + spike + befores() + 2 * synapse + axon; }
  // Rows of history in front.
  int extra(const hnn::Call& call) const {
    return 1 + (synapse ? call.synapse.depth() : 0) + (axon ? call.axon.depth() : 0);
  }
};

// Sets the call's segment.
template <class C>
int64_t backward_scratch_bytes(hnn::Call& call) {
  constexpr int n = kVectors<C>;
  const Kept kept(call);
  const int64_t row = kTile * sizeof(C), rows = kept.rows() ? kept.rows() : 1;
  const int64_t most = kKeptBytes / (row * rows) > kBlock ? kKeptBytes / (row * rows) : kBlock;
  call.segment = least(call.window, most);
  const int64_t depth = call.state_depth();
  return row * (kept.rows() * call.segment + kept.extra(call) + (segments_of(call.window, call.segment) + 1) * depth +
                5 * kBlock) +
         HNN_VECTOR_BYTES * (filter_vectors(call.synapse, n) + filter_vectors(call.axon, n));
}

template <class IO, class C = Compute<IO>>
class Backward {
  static constexpr int n = kVectors<C>;

 public:
  Backward(const hnn::Call& call, const Stages<C>& stages, Arena<C> arena)
      : call_(call),
        stages_(stages),
        kept_(call),
        densities_over_v_(!call.learns() && call.reset != kZero),
        layer_(call, arena),
        current_(call.current),
        grad_out_(call.grad_out),
        grad_potential_(call.grad_potential),
        grad_current_(call.grad_current) {
    const auto rows = [&](bool wanted, int before) { return wanted ? arena.rows(call.segment, before) : Rows<C>{}; };
    trace_.v = rows(kept_.v, 1);
    trace_.spike = rows(kept_.spike, kept_.axon ? call.axon.feedforward : 0);
    trace_.before_v = kept_.before_v ? rows(true, 0) : call.learns() ? trace_.v.from(-1) : Rows<C>{};
#define HNN_TAKE(name, Name) trace_.before_##name = rows(kept_.before_##name, 0);
    HNN_LATER_STATES(HNN_TAKE)
#undef HNN_TAKE
    synapse_x_ = rows(kept_.synapse, call.synapse.feedforward);
    synapse_y_ = rows(kept_.synapse, call.synapse.feedback);
    axon_y_ = rows(kept_.axon, call.axon.feedback);
    for (Rows<C>& block : block_) block = arena.rows(kBlock);
    starts_ = arena.take((segments_of(call.window, call.segment) + 1) * n * call.state_depth());
  }

  void tile(int64_t first, int count) {
    layer_.move_to(first, count);
    current_.move_to(first, count);
    grad_out_.move_to(first, count);
    grad_potential_.move_to(first, count);
    gather<C>(call_.peak, first, count, [&](int k, Vector<C> x) { peak_[k] = x; });
    grad_current_.move_to(first, count);
    load_adjoints();
    walk_back(*this, call_.steps, call_.window, call_.segment);
    save_gradients();
  }

  // What walk_back asks for.
  void load_checkpoint(int64_t window) {
    layer_.each_state([&](Vector<C>* value, int i) {
      gather<C>(layer_.checkpoint(window, i), layer_.first, layer_.count, [&](int k, Vector<C> x) { value[k] = x; });
    });
  }
  void keep_start(int64_t slot) {
    layer_.each_state([&](Vector<C>* value, int i) { std::copy(value, value + n, start(slot, i)); });
  }
  void restore_start(int64_t slot) {
    layer_.each_state([&](Vector<C>* value, int i) { std::copy(start(slot, i), start(slot, i) + n, value); });
  }

  void recompute(int64_t begin, int64_t length, bool keep) {
    if (keep && !kept_.rows()) return;
    if (keep) start_traces();
    const int64_t block = block_steps(length);
    for (int64_t t = 0; t < length; t += block) {
      const int64_t steps = least(block, length - t);
      Ahead ahead =
          keep ? grad_out_.ahead(begin + length - 1 - t, -1, false) : current_.ahead(begin + t + block, 1, false);
      Rows<C> input = current_.rows(begin + t, steps);
      if (call_.synapse.present) {
        const Rows<C> filtered = keep && kept_.synapse ? synapse_y_.from(t) : block_[0];
        if (keep && kept_.synapse) copy(input, synapse_x_.from(t), steps);
        stages_.synapse.forward(layer_.synapse, input, filtered, steps, ahead);
        ahead = {};
        input = filtered;
      }
      if (call_.reset == kNoMembrane) continue;
      Trace<C> trace;
      if (keep) trace = trace_.from(t);
      if (call_.reset == kFilter || call_.reset == kNone) trace.before_v = {};  // V of the row before is there
      const Rows<C> spikes = keep && kept_.spike ? Rows<C>{} : call_.axon.learns ? block_[1] : Rows<C>{};
      const auto run = keep ? stages_.recompute : stages_.advance;
      run(layer_.membrane, layer_.axon, input, spikes, trace, steps, ahead);
      if (call_.axon.learns) {  // otherwise nothing reads its output
        stages_.axon.forward(layer_.axon, keep ? trace.spike : spikes, keep ? axon_y_.from(t) : block_[2], steps, {});
      }
    }
  }

  void reverse(int64_t begin, int64_t length) {
    const int64_t block = block_steps(length);
    const int64_t next = begin > 0 ? begin - least(begin, call_.segment) : 0;
    const int64_t last = length <= block ? 0 : (length - 1) / block * block;
    for (int64_t t = last; t >= 0; t -= block) {
      const int64_t steps = least(block, length - t);
      Ahead ahead = current_.ahead(next + length - t - steps, 1, begin == 0);
      Rows<C> grad = grad_out_.rows(begin + t, steps);
      if (call_.axon.present && !stages_.axon_in_backward) {
        stages_.axon.backward(layer_.axon, grad, block_[0], trace_.spike.from(t), axon_y_.from(t), steps, {});
        grad = block_[0];
      }
      const bool summed = call_.grad_current.constant;
      // V of a step is read no more when its gradient is written.
      const Rows<C> v = trace_.v.from(t), densities = densities_over_v_ ? v : block_[1];
      const Rows<C> target = summed ? block_[3] : grad_current_.rows(begin + t, v);
      if (call_.reset != kNoMembrane) {
        if (stages_.density) stages_.density(layer_.membrane, v, densities, steps);
        Rows<C> to = target;
        if (call_.synapse.present) to = block_[2];
        stages_.membrane_backward(layer_.membrane, layer_.axon, grad, of_potentials(begin + t, steps), densities, to,
                                  trace_.from(t), steps, ahead);
        ahead = {};
        grad = to;
      }
      if (call_.synapse.present) {
        stages_.synapse.backward(layer_.synapse, grad, target, synapse_x_.from(t), synapse_y_.from(t), steps, ahead);
      }
      if (summed) {
        for (int64_t i = steps - 1; i >= 0; --i) {
          for (int k = 0; k < n; ++k) total_[k] = total_[k] + target.get(i, k);
        }
      } else {
        grad_current_.commit(begin + t, steps, target);
      }
    }
  }

 private:
  // The gradients of V of the steps from t on, where it is a result.
  Rows<C> of_potentials(int64_t t, int64_t steps) {
    if (call_.potential == kPotentialNone) return {};
    const Rows<C> grads = grad_potential_.rows(t, steps), result = block_[4];
    if (call_.potential == kPotentialTrain) return grads;
    for (int64_t i = 0; i < steps; ++i) {
      set_row(result, i, [&](int k) { return of_read_out(call_, grads.get(0, k), peak_[k], t + i, call_.steps); });
    }
    return result;
  }

  // Sets the rows from before a segment's first step.
  void start_traces() {
    if (trace_.before_v && !kept_.before_v) set_row(trace_.v, -1, [&](int k) { return layer_.membrane.state[k].v; });
    if (kept_.synapse) start_filter(layer_.synapse, synapse_x_, synapse_y_);
    if (kept_.axon) start_filter(layer_.axon, trace_.spike, axon_y_);
  }
  static void start_filter(const Filter<C>& f, Rows<C> x, Rows<C> y) {
    for (int p = 0; p < f.feedback; ++p) set_row(y, -1 - p, [&](int k) { return f.history[p * n + k]; });
    for (int q = 0; q < f.feedforward; ++q) {
      set_row(x, -1 - q, [&](int k) { return f.history[(f.feedback + q) * n + k]; });
    }
  }
  template <class Get>
  static void set_row(Rows<C> rows, int64_t t, Get get) {
    for (int k = 0; k < n; ++k) rows.set(t, k, get(k));
  }
  static void copy(Rows<C> from, Rows<C> to, int64_t steps) {
    for (int64_t t = 0; t < steps; ++t) set_row(to, t, [&](int k) { return from.get(t, k); });
  }

  Vector<C>* start(int64_t slot, int value) { return starts_ + (slot * call_.state_depth() + value) * n; }

  void load_adjoints() {
    Membrane<C>& m = layer_.membrane;
#define HNN_LOAD(name, Name) load(call_.grad_last_##name, [&](int k, Vector<C> x) { m.adjoint[k].name = x; });
    HNN_STATES(HNN_LOAD)
#undef HNN_LOAD
    if (call_.grad_current.constant) std::fill(total_, total_ + n, Vector<C>{});
    if (call_.learns()) std::fill(m.sum, m.sum + n, Coefficients<Vector<C>>{});
    load_adjoint(call_.synapse, layer_.synapse);
    load_adjoint(call_.axon, layer_.axon);
  }
  void load_adjoint(const hnn::FilterCall& call, const Filter<C>& f) {
    if (!call.present) return;
    if (call.learns) std::fill(f.sum, f.sum + n * f.taps(), Vector<C>{});
    for (int i = 0; i < f.depth(); ++i) {
      load(call.grad_last_history[i], [&](int k, Vector<C> x) { f.adjoint[i * n + k] = x; });
    }
  }
  template <class Set>
  HNN_INLINE void load(const hnn::PerNeuron& operand, Set set) {
    gather<C>(operand, layer_.first, layer_.count, set);
  }

  void save_gradients() {
    const Membrane<C>& m = layer_.membrane;
    if (call_.grad_current.constant && call_.grad_current.data) {
      set_row(grad_current_.rows(0), 0, [&](int k) { return total_[k]; });
      grad_current_.commit(0, 1);
    }
#define HNN_SAVE(name, Name) save(call_.grad_##name, [&](int k) { return m.adjoint[k].name; });
    HNN_STATES(HNN_SAVE)
#undef HNN_SAVE
#define HNN_SAVE(name, Name) save(call_.partial_##name, [&](int k) { return m.sum[k].name; });
    HNN_COEFFICIENTS(HNN_SAVE)
#undef HNN_SAVE
    save_filter(call_.synapse, layer_.synapse);
    save_filter(call_.axon, layer_.axon);
  }
  void save_filter(const hnn::FilterCall& call, const Filter<C>& f) {
    if (!call.present) return;
    for (int i = 0; i < f.depth(); ++i) save(call.grad_history[i], [&](int k) { return f.adjoint[i * n + k]; });
    for (int i = 0; i < f.taps(); ++i) save(call.partials[i], [&](int k) { return f.sum[i * n + k]; });
  }
  template <class Get>
  HNN_INLINE void save(const hnn::PerNeuron& operand, Get get) {
    scatter<C>(operand, layer_.first, layer_.count, get);
  }

  const hnn::Call& call_;
  const Stages<C>& stages_;
  const Kept kept_;
  const bool densities_over_v_;  // nothing reads V after its density
  Layer<C> layer_;
  Trace<C> trace_;
  Rows<C> synapse_x_, synapse_y_, axon_y_;  // the axon's inputs are the spikes
  Rows<C> block_[5];
  Vector<C>* starts_;
  Reader<IO> current_, grad_out_, grad_potential_;
  Writer<IO> grad_current_;
  Vector<C> total_[n];  // of a constant current's gradient
  Vector<C> peak_[n];   // the step of the potential's maximum
};

}  // namespace HNN_NAMESPACE
