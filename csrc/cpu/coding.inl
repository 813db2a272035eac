// The codings: a tile of elements through all steps.
//
// Included by body.inl, after choose.inl.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

HNN_INLINE VectorF exp_(VectorF x) { return exp_of<Vector<int32_t>, Words>(x); }
HNN_INLINE VectorD exp_(VectorD x) {
  return each_lane(x, [](double y) { return std::exp(y); });
}

// The noise of a tile, in groups of four steps.
class Noise {
 public:
  Noise(const hnn::CodingCall& call, int64_t first, int count) : seed_(call.seed) {
    Place place;
    place.find(call.element, first, count);
    for (int i = 0; i < count; ++i) element_[i % 2][i / 2] = static_cast<uint64_t>(call.first_element) + place.at(i);
  }
  template <bool kNormal>
  HNN_INLINE void generate(int64_t group) {
    for (int k = 0; k < kVectors<float>; ++k) {
      WideWords c[2][4];
      for (int odd = 0; odd < 2; ++odd) {
        c[odd][0] = load(element_[odd] + k * kLanes<uint64_t>);
        c[odd][1] = c[odd][0] >> 32;
        c[odd][2] = WideWords{} + static_cast<uint32_t>(group);
        c[odd][3] = WideWords{} + static_cast<uint32_t>(group >> 32);
        philox(c[odd], seed_);
      }
      Words words[4];
      VectorF x[4];
      for (int i = 0; i < 4; ++i) words[i] = (Words)((c[0][i] & 0xFFFFFFFFu) | c[1][i] << 32);
      if (kNormal) {
        normals<Vector<int32_t>>(words[0], words[1], x[0], x[1]);
        normals<Vector<int32_t>>(words[2], words[3], x[2], x[3]);
      } else {
        for (int i = 0; i < 4; ++i) x[i] = uniform<VectorF, Vector<int32_t>>(words[i]);
      }
      for (int i = 0; i < 4; ++i) store(row_[i] + k * kLanes<float>, x[i]);
    }
  }
  // The noise of step i of the group, for vector k of the tile.
  template <class C>
  HNN_INLINE Vector<C> get(int i, int k) const {
    const float* const at = row_[i] + k * kLanes<C>;
    if constexpr (sizeof(C) == sizeof(float)) return load(at);
    Vector<C> wide;
    for (int j = 0; j < kLanes<C>; ++j) wide[j] = at[j];
    return wide;
  }

 private:
  uint64_t seed_;
  alignas(64) uint64_t element_[2][hnn::kTile / 2] = {};  // the elements at even and at odd places
  alignas(64) float row_[4][hnn::kTile];
};

// Calls begin(t, n) before and end(t, n) after each block of steps. Between them it calls step(i, place), where `place`
// is that of step t + i in its group of four, after generate(group).
template <class Generate, class Begin, class Step, class End>
HNN_INLINE void through_time(const hnn::CodingCall& call, Generate generate, Begin begin, Step step, End end) {
  for (int64_t t = 0; t < call.steps;) {
    const int64_t at = call.first_step + t, n = least(call.steps - t, kBlock - at % 4);
    begin(t, n);
    for (int64_t i = 0; i < n;) {
      generate((at + i) / 4);
      for (int place = (at + i) % 4; place < 4 && i < n; ++place, ++i) step(i, place);
    }
    end(t, n);
    t += n;
  }
}

// out[t] = value(k, noise[t]) for each vector k of the tile.
template <bool kNormal, class IO, class Value>
HNN_INLINE void encode_tile(const hnn::CodingCall& call, int64_t first, int count, Value value) {
  using C = Compute<IO>;
  Noise noise(call, first, count);
  Writer<IO> out(call.out, first, count);
  Rows<C> rows;
  through_time(
      call, [&](int64_t group) { noise.generate<kNormal>(group); }, [&](int64_t t, int64_t) { rows = out.rows(t); },
      [&](int64_t i, int place) {
        for (int k = 0; k < kVectors<C>; ++k) rows.put(i, k, value(k, noise.get<C>(place, k)));
      },
      [&](int64_t t, int64_t n) { out.commit(t, n); });
}

template <class IO>
void gaussian_tile(const hnn::CodingCall& call, int64_t first, int count) {
  using C = Compute<IO>;
  Reader<IO> mean(call.mean, first, count), log_std(call.log_std, first, count);
  const Rows<C> mu = mean.rows(0, 1), sigma = log_std.rows(0, 1);
  for (int k = 0; k < kVectors<C>; ++k) sigma.set(0, k, exp_(sigma.get(0, k)));
  encode_tile<true, IO>(call, first, count,
                        [&](int k, Vector<C> noise) { return mu.get(0, k) + sigma.get(0, k) * noise; });
}

template <class IO>
bool poisson_tile(const hnn::CodingCall& call, int64_t first, int count) {
  using C = Compute<IO>;
  Reader<IO> probability(call.probability, first, count);
  const Rows<C> p = probability.rows(0, 1);
  bool valid = true;
  for (int i = 0; i < count; ++i) valid &= p.data[i] >= 0 && p.data[i] <= 1;
  const Vector<C> zero = {}, one = zero + 1;
  encode_tile<false, IO>(call, first, count, [&](int k, Vector<C> noise) { return noise < p.get(0, k) ? one : zero; });
  return valid;
}

template <class IO>
void gaussian_backward_tile(const hnn::CodingCall& call, int64_t first, int count) {
  using C = Compute<IO>;
  constexpr int n = kVectors<C>;
  Noise noise(call, first, count);
  Reader<IO> grad_out(call.grad_out, first, count);
  Rows<C> rows;
  Vector<C> sum[n] = {}, weighted[n] = {};
  const bool learns = call.grad_log_std.data;
  through_time(
      call,
      [&](int64_t group) {
        if (learns) noise.generate<true>(group);
      },
      [&](int64_t t, int64_t steps) { rows = grad_out.rows(t, steps); },
      [&](int64_t i, int place) {
        for (int k = 0; k < n; ++k) sum[k] += rows.get(i, k);
        for (int k = 0; learns && k < n; ++k) weighted[k] += rows.get(i, k) * noise.get<C>(place, k);
      },
      [](int64_t, int64_t) {});
  Reader<IO> log_std(call.log_std, first, count);
  Writer<IO> grad_mean(call.grad_mean, first, count), grad_log_std(call.grad_log_std, first, count);
  const Rows<C> mean = grad_mean.rows(0), log = grad_log_std.rows(0), x = log_std.rows(0, 1);
  for (int k = 0; k < n; ++k) {
    mean.set(0, k, sum[k]);
    log.set(0, k, exp_(x.get(0, k)) * weighted[k]);
  }
  grad_mean.commit(0, 1);
  grad_log_std.commit(0, 1);
}

// Calls f(first neuron, count, Type<IO>) for each tile.
template <class F>
void each_tile(const hnn::CodingCall& call, int64_t begin, int64_t end, F f) {
  choose_dtype(call.dtype, [&](auto type) {
    each_tile(call.neurons, begin, end, [&](int64_t first, int count) { f(first, count, type); });
  });
}

void encode_gaussian(const hnn::CodingCall& call, int64_t begin, int64_t end) {
  each_tile(call, begin, end,
            [&](int64_t m, int count, auto type) { gaussian_tile<typename decltype(type)::type>(call, m, count); });
}
void gaussian_backward(const hnn::CodingCall& call, int64_t begin, int64_t end) {
  each_tile(call, begin, end, [&](int64_t m, int count, auto type) {
    gaussian_backward_tile<typename decltype(type)::type>(call, m, count);
  });
}
bool encode_poisson(const hnn::CodingCall& call, int64_t begin, int64_t end) {
  bool valid = true;
  each_tile(call, begin, end, [&](int64_t m, int count, auto type) {
    valid &= poisson_tile<typename decltype(type)::type>(call, m, count);
  });
  return valid;
}

}  // namespace HNN_NAMESPACE
