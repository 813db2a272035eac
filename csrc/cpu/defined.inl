// Leads tiles of a defined neuron through time and back. N is the neuron, as hnn_kernels/_define/cpp.py writes it:
//   kStates, kCoefficients, kOutputs, kHoisted   the sizes of the arrays below
//   hoist(c, h)                    what is computed of the coefficients once
//   forward(x, s, h, out)          one step: s becomes the states after it
//   advance(x, s, h)               the states alone
//   Fixed, Learns                  two adjoints K, without and with the gradients of coefficients:
//     kRows, kSums, kReadsInput    values kept of each step, sums over time, and whether backward reads x
//     keep(x, s, h, row)           one step forward, with what is kept
//     start(s, row)                the row from before the first step
//     backward(x, row, before, h, grad, a, sum)    returns dL/dx; `before` is the row of the step before
//     chain(c, total, grad)        the coefficients' gradients, from the sums
//
// Included by the source that is written, after segments.inl.
#ifndef HNN_NAMESPACE
#error "a part of the kernels of defined neurons: see hnn_kernels/_define/cpp.py"
#endif

namespace HNN_NAMESPACE {

// The vectors that go through time together: as many as leave the values that each carries from step to step in
// registers, of which AVX-512 has twice as many; at least two, to hide the latency of the recursion.
template <class C>
constexpr int group_of(int carried) {
  constexpr int registers = HNN_VECTOR_BYTES == 64 ? 24 : 10;
  int g = kVectors<C>;
  while (g > 2 && g * carried > registers) g /= 2;
  return g;
}

// An array of at least one element, since C++ has none of zero.
template <class T, int k>
using Some = T[k < 1 ? 1 : k];

template <class N, class C>
struct DefinedTile {
  static constexpr int n = kVectors<C>;
  using V = Vector<C>;
  Some<V, N::kStates> state[n], adjoint[n];
  Some<V, N::kHoisted> hoisted[n];
  Some<V, N::kCoefficients> coefficients[n];
};

// The loads and stores of the parts that the passes share.
template <class N, class C>
class DefinedPass {
 protected:
  static constexpr int n = kVectors<C>;
  using V = Vector<C>;

  explicit DefinedPass(const hnn::DefinedCall& call) : call_(call), uniform_(true) {
    for (int i = 0; i < N::kCoefficients; ++i) uniform_ &= is_absent_or_one(call.coefficients[i]);
    if (uniform_) hoist();
  }
  void move_to(int64_t first, int count) {
    first_ = first;
    count_ = count;
    if (!uniform_) hoist();
    for (int i = 0; i < N::kStates; ++i) {
      gather<C>(call_.states[i], first, count, [&](int k, V x) { tile_.state[k][i] = x; });
    }
  }
  hnn::PerNeuron checkpoint(int64_t window, int value) const {
    C* const all = static_cast<C*>(call_.checkpoints);
    return hnn::PerNeuron::dense(all + ((window - 1) * N::kStates + value) * call_.neurons, call_.neurons);
  }

  const hnn::DefinedCall& call_;
  int64_t first_ = 0;
  int count_ = 0;
  DefinedTile<N, C> tile_;

 private:
  void hoist() {
    for (int i = 0; i < N::kCoefficients; ++i) {
      gather<C>(call_.coefficients[i], first_, count_, [&](int k, V x) { tile_.coefficients[k][i] = x; });
    }
    // Past `count` a value may be 0 / 0, which harms nothing: its lane is never stored.
    for (int k = 0; k < n; ++k) N::hoist(tile_.coefficients[k], tile_.hoisted[k]);
  }
  bool uniform_;
};

template <class N, class C, int g>
void defined_forward(DefinedTile<N, C>& m, const Rows<C>& of_x, const Rows<C>* to_outputs, int64_t steps,
                     const Ahead& then) {
  using V = Vector<C>;
  const Rows<C> x = of_x;
  Rows<C> outputs[N::kOutputs];
  for (int i = 0; i < N::kOutputs; ++i) outputs[i] = to_outputs[i];
  Ahead ahead = then;
  for (int first = 0; first < kVectors<C>; first += g) {
    // Local copies, to which nothing points, stay in registers.
    Some<V, N::kStates> state[g];
    unrolled<g>([&](auto k) HNN_LAMBDA {
      unrolled<N::kStates>([&](auto i) HNN_LAMBDA { state[k][i] = m.state[first + k][i]; });
    });
    for (int64_t t = 0; t < steps; ++t) {
      ahead.next();
      unrolled<g>([&](auto k) HNN_LAMBDA {
        V out[N::kOutputs];
        N::forward(x.get(t, first + k), state[k], m.hoisted[first + k], out);
        unrolled<N::kOutputs>([&](auto i) HNN_LAMBDA { outputs[i].put(t, first + k, out[i]); });
      });
    }
    ahead = {};
    unrolled<g>([&](auto k) HNN_LAMBDA {
      unrolled<N::kStates>([&](auto i) HNN_LAMBDA { m.state[first + k][i] = state[k][i]; });
    });
  }
}

// Computes the states of a block again. With kKeeps it leaves the rows of K in `kept`, K::kRows of each step.
template <class N, class K, class C, bool kKeeps>
void defined_recompute(DefinedTile<N, C>& m, const Rows<C>& of_x, const Rows<C>& to_kept, int64_t steps,
                       const Ahead& then) {
  using V = Vector<C>;
  constexpr int g = group_of<C>(N::kStates);
  const Rows<C> x = of_x, kept = to_kept;
  Ahead ahead = then;
  for (int first = 0; first < kVectors<C>; first += g) {
    Some<V, N::kStates> state[g];
    unrolled<g>([&](auto k) HNN_LAMBDA {
      unrolled<N::kStates>([&](auto i) HNN_LAMBDA { state[k][i] = m.state[first + k][i]; });
    });
    for (int64_t t = 0; t < steps; ++t) {
      ahead.next();
      unrolled<g>([&](auto k) HNN_LAMBDA {
        if constexpr (kKeeps) {
          Some<V, K::kRows> row;
          K::keep(x.get(t, first + k), state[k], m.hoisted[first + k], row);
          unrolled<K::kRows>([&](auto i) HNN_LAMBDA { kept.set(t * K::kRows + i, first + k, row[i]); });
        } else {
          N::advance(x.get(t, first + k), state[k], m.hoisted[first + k]);
        }
      });
    }
    ahead = {};
    unrolled<g>([&](auto k) HNN_LAMBDA {
      unrolled<N::kStates>([&](auto i) HNN_LAMBDA { m.state[first + k][i] = state[k][i]; });
    });
  }
}

template <class N, class K, class C>
void defined_backward(DefinedTile<N, C>& m, Some<Vector<C>, K::kSums>* sums, const Rows<C>* of_grads,
                      const Rows<C>& of_x, const Rows<C>& of_kept, const Rows<C>& to_grad_x, int64_t steps,
                      const Ahead& then) {
  using V = Vector<C>;
  constexpr int g = group_of<C>(N::kStates + K::kSums);
  const Rows<C> x = of_x, kept = of_kept, grad_x = to_grad_x;
  Rows<C> grads[N::kOutputs];
  for (int i = 0; i < N::kOutputs; ++i) grads[i] = of_grads[i];
  Ahead ahead = then;
  for (int first = 0; first < kVectors<C>; first += g) {
    Some<V, N::kStates> adjoint[g];
    Some<V, K::kSums> sum[g];
    unrolled<g>([&](auto k) HNN_LAMBDA {
      unrolled<N::kStates>([&](auto i) HNN_LAMBDA { adjoint[k][i] = m.adjoint[first + k][i]; });
      unrolled<K::kSums>([&](auto i) HNN_LAMBDA { sum[k][i] = sums[first + k][i]; });
    });
    for (int64_t t = steps - 1; t >= 0; --t) {
      ahead.next();
      unrolled<g>([&](auto k) HNN_LAMBDA {
        // Of what is read here, the compiler leaves out what K::backward does not use.
        Some<V, K::kRows> row, before;
        unrolled<K::kRows>([&](auto i) HNN_LAMBDA {
          row[i] = kept.get(t * K::kRows + i, first + k);
          before[i] = kept.get((t - 1) * K::kRows + i, first + k);
        });
        V grad[N::kOutputs];
        unrolled<N::kOutputs>([&](auto i) HNN_LAMBDA { grad[i] = grads[i].get(t, first + k); });
        V input{};
        if constexpr (K::kReadsInput) input = x.get(t, first + k);
        grad_x.put(t, first + k, K::backward(input, row, before, m.hoisted[first + k], grad, adjoint[k], sum[k]));
      });
    }
    ahead = {};
    unrolled<g>([&](auto k) HNN_LAMBDA {
      unrolled<N::kStates>([&](auto i) HNN_LAMBDA { m.adjoint[first + k][i] = adjoint[k][i]; });
      unrolled<K::kSums>([&](auto i) HNN_LAMBDA { sums[first + k][i] = sum[k][i]; });
    });
  }
}

template <class N, class IO, class C = Compute<IO>>
class DefinedForward : DefinedPass<N, C> {
  using Base = DefinedPass<N, C>;
  using Base::call_, Base::count_, Base::first_, Base::n, Base::tile_;

 public:
  DefinedForward(const hnn::DefinedCall& call, void*) : Base(call), x_(call.x) {
    outputs_.reserve(N::kOutputs);
    for (int i = 0; i < N::kOutputs; ++i) outputs_.emplace_back(call.outputs[i]);
  }

  void tile(int64_t first, int count) {
    this->move_to(first, count);
    x_.move_to(first, count);
    for (Writer<IO>& output : outputs_) output.move_to(first, count);
    for (int64_t begin = 0; begin < call_.steps; begin += call_.window) {
      if (begin > 0) {
        for (int i = 0; i < N::kStates; ++i) {
          scatter<C>(this->checkpoint(begin / call_.window, i), first, count, [&](int k) { return tile_.state[k][i]; });
        }
      }
      const int64_t end = least(begin + call_.window, call_.steps), block = block_steps(end - begin);
      for (int64_t t = begin; t < end; t += block) through(t, least(block, end - t), t + block);
    }
    for (int i = 0; i < N::kStates; ++i) {
      scatter<C>(call_.last_states[i], first, count, [&](int k) { return tile_.state[k][i]; });
    }
  }

 private:
  void through(int64_t t, int64_t steps, int64_t next) {
    const Ahead ahead = x_.ahead_once(next, call_.steps);
    Rows<C> to[N::kOutputs];
    for (int i = 0; i < N::kOutputs; ++i) to[i] = outputs_[i].rows(t);
    // Large trains go through time by whole rows, as in stages.inl.
    constexpr int g = group_of<C>(N::kStates);
    const auto run = HNN_VECTOR_BYTES == 32 && call_.x.large ? defined_forward < N, C,
               HNN_VECTOR_BYTES == 32 ? n : g >              : defined_forward<N, C, g>;
    run(tile_, x_.rows(t, steps), to, steps, ahead);
    for (Writer<IO>& output : outputs_) output.commit(t, steps);
  }
  Reader<IO> x_;
  std::vector<Writer<IO>> outputs_;
};

template <class N, class K, class IO, class C = Compute<IO>>
class DefinedBackward : DefinedPass<N, C> {
  using Base = DefinedPass<N, C>;
  using Base::call_, Base::count_, Base::first_, Base::n, Base::tile_;
  using V = Vector<C>;
  static constexpr int64_t kRow = kTile * sizeof(C);

 public:
  // Sets the call's segment.
  static int64_t scratch_bytes(hnn::DefinedCall& call) {
    const int64_t most = K::kRows ? kKeptBytes / (kRow * (K::kRows ? K::kRows : 1)) : call.window;
    call.segment = least(call.window, most > kBlock ? most : kBlock);
    const int64_t starts = segments_of(call.window, call.segment) + 1;
    return kRow * (K::kRows * (call.segment + 1) + starts * N::kStates + kBlock);
  }

  DefinedBackward(const hnn::DefinedCall& call, void* scratch) : Base(call), x_(call.x), grad_x_(call.grad_x) {
    Arena<C> arena(scratch);
    if (K::kRows) kept_ = arena.rows(K::kRows * call.segment, K::kRows);
    block_ = arena.rows(kBlock);
    starts_ = arena.take((segments_of(call.window, call.segment) + 1) * N::kStates * n);
    grads_.reserve(N::kOutputs);
    for (int i = 0; i < N::kOutputs; ++i) grads_.emplace_back(call.grad_outputs[i]);
  }

  void tile(int64_t first, int count) {
    this->move_to(first, count);
    x_.move_to(first, count);
    grad_x_.move_to(first, count);
    for (Reader<IO>& grad : grads_) grad.move_to(first, count);
    for (int i = 0; i < N::kStates; ++i) {
      gather<C>(call_.grad_last_states[i], first, count, [&](int k, V x) { tile_.adjoint[k][i] = x; });
    }
    for (auto& sum : sums_) std::fill(sum, sum + (K::kSums < 1 ? 1 : K::kSums), V{});
    std::fill(total_, total_ + n, V{});
    walk_back(*this, call_.steps, call_.window, call_.segment);
    save();
  }

  // What walk_back asks for.
  void load_checkpoint(int64_t window) {
    for (int i = 0; i < N::kStates; ++i) {
      gather<C>(this->checkpoint(window, i), first_, count_, [&](int k, V x) { tile_.state[k][i] = x; });
    }
  }
  void keep_start(int64_t slot) {
    each_start(slot, [](V& state, V& start) { start = state; });
  }
  void restore_start(int64_t slot) {
    each_start(slot, [](V& state, V& start) { state = start; });
  }
  void recompute(int64_t begin, int64_t length, bool keep) {
    if (keep && !K::kRows) return;
    if (keep) {
      for (int k = 0; k < n; ++k) {
        Some<V, K::kRows> row{};
        K::start(tile_.state[k], row);
        for (int i = 0; i < K::kRows; ++i) kept_.set(i - K::kRows, k, row[i]);
      }
    }
    const int64_t block = block_steps(length);
    for (int64_t t = 0; t < length; t += block) {
      const int64_t steps = least(block, length - t);
      // As in backward.inl, the two passes prefetch for each other.
      const Ahead ahead =
          keep ? grads_[0].ahead(begin + length - 1 - t, -1, false) : x_.ahead(begin + t + block, 1, false);
      const auto run = keep ? defined_recompute<N, K, C, true> : defined_recompute<N, K, C, false>;
      run(tile_, x_.rows(begin + t, steps), kept_.from(t * K::kRows), steps, ahead);
    }
  }
  void reverse(int64_t begin, int64_t length) {
    const int64_t block = block_steps(length), next = begin > 0 ? begin - least(begin, call_.segment) : 0;
    for (int64_t t = (length - 1) / block * block; t >= 0; t -= block) {
      const int64_t steps = least(block, length - t);
      const Ahead ahead = x_.ahead(next + length - t - steps, 1, begin == 0);
      Rows<C> grads[N::kOutputs];
      for (int i = 0; i < N::kOutputs; ++i) grads[i] = grads_[i].rows(begin + t, steps);
      const Rows<C> x = K::kReadsInput ? x_.rows(begin + t, steps) : Rows<C>{};
      const bool summed = call_.x.constant;
      const Rows<C> target = summed ? block_ : grad_x_.rows(begin + t);
      defined_backward<N, K, C>(tile_, sums_, grads, x, kept_.from(t * K::kRows), target, steps, ahead);
      if (!summed) {
        grad_x_.commit(begin + t, steps);
        continue;
      }
      for (int64_t i = steps - 1; i >= 0; --i) {
        for (int k = 0; k < n; ++k) total_[k] = total_[k] + target.get(i, k);
      }
    }
  }

 private:
  template <class F>
  void each_start(int64_t slot, F f) {
    for (int i = 0; i < N::kStates; ++i) {
      for (int k = 0; k < n; ++k) f(tile_.state[k][i], starts_[(slot * N::kStates + i) * n + k]);
    }
  }
  void save() {
    if (call_.x.constant) {
      const Rows<C> row = grad_x_.rows(0);
      if (row) {
        for (int k = 0; k < n; ++k) row.set(0, k, total_[k]);
        grad_x_.commit(0, 1);
      }
    }
    for (int i = 0; i < N::kStates; ++i) {
      scatter<C>(call_.grad_states[i], first_, count_, [&](int k) { return tile_.adjoint[k][i]; });
    }
    if constexpr (K::kSums > 0) {
      Some<V, N::kCoefficients> grads[n];
      for (int k = 0; k < n; ++k) K::chain(tile_.coefficients[k], sums_[k], grads[k]);
      for (int i = 0; i < N::kCoefficients; ++i) {
        scatter<C>(call_.partials[i], first_, count_, [&](int k) { return grads[k][i]; });
      }
    }
  }
  Reader<IO> x_;
  Writer<IO> grad_x_;
  std::vector<Reader<IO>> grads_;
  Rows<C> kept_, block_;
  V* starts_;
  Some<V, K::kSums> sums_[n];
  V total_[n];  // of a constant input's gradient
};

template <class Pass>
void run_defined(const hnn::DefinedCall& call, void* scratch, int64_t begin, int64_t end) {
  Pass pass(call, scratch);
  each_tile(call.neurons, begin, end, [&](int64_t first, int count) { pass.tile(first, count); });
}

// The kernels of the neuron N with trains of the type IO.
template <class N, class IO>
constexpr hnn::DefinedKernels defined_kernels() {
  using Fixed = DefinedBackward<N, typename N::Fixed, IO>;
  using Learns = DefinedBackward<N, typename N::Learns, IO>;
  return {sizeof(hnn::DefinedCall),
          N::kStates,
          N::kCoefficients,
          N::kOutputs,
          [](hnn::DefinedCall& call, bool backward) -> int64_t {
            if (!backward) return 0;
            return call.learns ? Learns::scratch_bytes(call) : Fixed::scratch_bytes(call);
          },
          run_defined<DefinedForward<N, IO>>,
          [](const hnn::DefinedCall& call, void* scratch, int64_t begin, int64_t end) {
            (call.learns ? run_defined<Learns> : run_defined<Fixed>)(call, scratch, begin, end);
          }};
}

}  // namespace HNN_NAMESPACE
