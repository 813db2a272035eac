// The vector type of the instruction set being compiled, and the rows of a tile in memory: loading and storing kTile
// neurons of one step in any layout and dtype. Included into HNN_NAMESPACE once per instruction set (see
// kernels_*.cpp), which defines HNN_VECTOR_BYTES and HNN_INLINE.

namespace HNN_NAMESPACE {

template <class C>
struct VectorOf {
  typedef C type __attribute__((vector_size(HNN_VECTOR_BYTES)));
};
template <class C>
using Vector = typename VectorOf<C>::type;
template <class C>
constexpr int kLanes = HNN_VECTOR_BYTES / sizeof(C);
template <class C>
constexpr int kVectors = hnn::kTile / kLanes<C>;

using VectorF = Vector<float>;
using VectorD = Vector<double>;
HNN_INLINE float scalar_of(VectorF) { return 0; }
HNN_INLINE double scalar_of(VectorD) { return 0; }

template <class C>
HNN_INLINE Vector<C> load(const C* p) {
  Vector<C> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class C>
HNN_INLINE void store(C* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}
// Past the cache: the line is not read before it is written. `p` is aligned to the vector.
template <class V>
HNN_INLINE void stream(void* p, V v) {
#if defined(HNN_STREAM)
  HNN_STREAM(p, v);
#else
  __builtin_memcpy(p, &v, sizeof v);
#endif
}

// a * b + c, rounded once where the instruction set can. Only for gradients: spikes are the same on every processor.
HNN_INLINE VectorF fma_(VectorF a, VectorF b, VectorF c) {
#ifdef HNN_FMA
  return (VectorF)HNN_FMA(ps)(a, b, c);
#else
  return a * b + c;
#endif
}
HNN_INLINE VectorD fma_(VectorD a, VectorD b, VectorD c) {
#ifdef HNN_FMA
  return (VectorD)HNN_FMA(pd)(a, b, c);
#else
  return a * b + c;
#endif
}

// 2^x for x <= 0, within 3 ulp down to 2^-126 and that from there on: the integer part of x goes into the exponent, the
// rest f into the polynomial that is nearest to 2^f on [-1/2, 1/2] (relative error 9e-8).
HNN_INLINE VectorF exp2_(VectorF x) {
  typedef int32_t Int __attribute__((vector_size(HNN_VECTOR_BYTES)));
  const VectorF low = VectorF{} - 126.0f;
  x = x < low ? low : x;
  const VectorF shift = VectorF{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const VectorF shifted = x + shift;
  const VectorF f = x - (shifted - shift);
  const auto c = [](float y) { return VectorF{} + y; };
  VectorF p = fma_(f, c(1.326472753262e-3f), c(9.671512709486e-3f));
  p = fma_(p, f, c(5.550733742004e-2f));
  p = fma_(p, f, c(2.402224208385e-1f));
  p = fma_(p, f, c(6.931469776003e-1f));
  p = fma_(p, f, c(1.0f));
  return (VectorF)((Int)p + ((Int)shifted << 23));
}
template <class V, class F>
HNN_INLINE V each_lane(V x, F f) {
  for (size_t i = 0; i < sizeof(V) / sizeof(x[0]); ++i) x[i] = f(x[i]);
  return x;
}
HNN_INLINE VectorD exp2_(VectorD x) {
  return each_lane(x, [](double y) { return std::exp2(y); });
}
HNN_INLINE VectorF erfc_(VectorF x) {
  return each_lane(x, [](float y) { return std::erfc(y); });
}
HNN_INLINE VectorD erfc_(VectorD x) {
  return each_lane(x, [](double y) { return std::erfc(y); });
}

// -- element types ----------------------------------------------------------------------------------------------------

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};
template <class IO>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class IO>
using Compute = typename ComputeOf<IO>::type;

HNN_INLINE uint32_t bits_of(float x) {
  uint32_t b;
  __builtin_memcpy(&b, &x, 4);
  return b;
}
HNN_INLINE float float_of(uint32_t b) {
  float x;
  __builtin_memcpy(&x, &b, 4);
  return x;
}

HNN_INLINE float widen(float x) { return x; }
HNN_INLINE double widen(double x) { return x; }
HNN_INLINE float widen(BFloat16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }
HNN_INLINE float widen(Float16 x) {
  // Exponent and mantissa moved into place and rescaled by a product; subnormals by a difference of normal numbers.
  const uint32_t w = static_cast<uint32_t>(x.bits) << 16, sign = w & 0x80000000u, two_w = w + w;
  const float normal = float_of((two_w >> 4) + (0xE0u << 23)) * float_of(0x7800000u);
  const float subnormal = float_of((two_w >> 17) | (126u << 23)) - 0.5f;
  return float_of(sign | (two_w < (1u << 27) ? bits_of(subnormal) : bits_of(normal)));
}

template <class IO>
HNN_INLINE IO narrow(Compute<IO> x) {
  return x;
}
template <>
HNN_INLINE BFloat16 narrow<BFloat16>(float x) {
  const uint32_t b = bits_of(x);
  const uint32_t rounded = (b + 0x7FFFu + ((b >> 16) & 1)) >> 16;  // to nearest even
  return {static_cast<uint16_t>(x != x ? 0x7FC0u : rounded)};
}
template <>
HNN_INLINE Float16 narrow<Float16>(float x) {
  // Scaling up and down saturates to infinity; adding a power of two rounds the mantissa to nearest even.
  const uint32_t w = bits_of(x), sign = w & 0x80000000u, two_w = w + w;
  const float magnitude = float_of(w & 0x7FFFFFFFu) * float_of(0x77800000u) * float_of(0x08800000u);
  uint32_t bias = two_w & 0xFF000000u;
  bias = bias < 0x71000000u ? 0x71000000u : bias;
  const uint32_t b = bits_of(float_of((bias >> 1) + 0x07800000u) + magnitude);
  const uint32_t nonsign = ((b >> 13) & 0x7C00u) + (b & 0xFFFu);
  return {static_cast<uint16_t>((sign >> 16) | (two_w > 0xFF000000u ? 0x7E00u : nonsign))};
}

// -- rows of a tile ----------------------------------------------------------------------------------------------------

// Where the tile's neurons lie in one operand: `base` and consecutive, or each at its own offset.
struct Place {
  int64_t base = 0;
  bool dense = false;
  int64_t offset[hnn::kTile];

  void find(const hnn::Layout& layout, int64_t first, int count) {
    base = layout.offset(first);
    dense = layout.dense();
    if (dense) return;
    if (layout.uniform()) {
      for (int i = 0; i < count; ++i) offset[i] = 0;
      return;
    }
    // Odometer along the innermost axis; a full division only where it wraps.
    const int inner = layout.dims - 1;
    for (int i = 0; i < count;) {
      const int64_t m = first + i, start = layout.offset(m), left = layout.size[inner] - m % layout.size[inner];
      for (int64_t j = 0; j < left && i < count; ++j, ++i) offset[i] = start + j * layout.stride[inner];
    }
  }
  int64_t at(int i) const { return dense ? base + i : offset[i]; }
};

// The tile's values of a per-neuron operand, kVectors<C> vectors; past `count` they are anything finite.
template <class C>
HNN_INLINE void gather(const hnn::PerNeuron& operand, int64_t first, int count, Vector<C>* to) {
  const C* data = static_cast<const C*>(operand.data);
  if (!data || operand.layout.uniform()) {
    const Vector<C> value = Vector<C>{} + (data ? data[0] : static_cast<C>(operand.value));
    for (int k = 0; k < kVectors<C>; ++k) to[k] = value;
  } else if (operand.layout.dense() && count == hnn::kTile) {
    for (int k = 0; k < kVectors<C>; ++k) to[k] = load(data + first + k * kLanes<C>);
  } else {
    Place place;
    place.find(operand.layout, first, count);
    alignas(64) C row[hnn::kTile] = {};
    for (int i = 0; i < count; ++i) row[i] = data[place.at(i)];
    for (int k = 0; k < kVectors<C>; ++k) to[k] = load(row + k * kLanes<C>);
  }
}
template <class C>
HNN_INLINE void scatter(const hnn::PerNeuron& operand, int64_t first, int count, const Vector<C>* from) {
  C* data = static_cast<C*>(operand.data);
  if (!data) return;
  if (operand.layout.dense() && count == hnn::kTile) {
    for (int k = 0; k < kVectors<C>; ++k) store(data + first + k * kLanes<C>, from[k]);
  } else {
    Place place;
    place.find(operand.layout, first, count);
    alignas(64) C row[hnn::kTile];
    for (int k = 0; k < kVectors<C>; ++k) store(row + k * kLanes<C>, from[k]);
    for (int i = 0; i < count; ++i) data[place.at(i)] = row[i];
  }
}

// Reads a tile of a train, step by step.
template <class IO>
class Reader {
  using C = Compute<IO>;

 public:
  Reader(const hnn::Train& train, int64_t first, int count)
      : data_(static_cast<const IO*>(train.data)), step_(train.step), count_(count) {
    for (C& x : row_) x = 0;
    if (!data_) return;
    place_.find(train.layout, first, count);
    whole_ = place_.dense && count == hnn::kTile;
    if (train.constant) {
      fetch(0);
      data_ = nullptr;
    }
  }
  // kTile values of step t: in place where they lie there as they are, else converted into the row.
  HNN_INLINE const C* row(int64_t t) {
    if (!data_) return row_;
    if constexpr (sizeof(IO) == sizeof(C)) {
      if (whole_) return data_ + t * step_ + place_.base;
    }
    fetch(t);
    return row_;
  }
  // Ask for row t of this tile, or of the next one, which lies just behind it, into the L2 cache: the rows of a tile
  // lie a whole step apart, which no hardware prefetcher follows.
  HNN_INLINE void prefetch(int64_t t, bool next_tile) const {
    if (!data_ || !whole_) return;
    const char* p = reinterpret_cast<const char*>(data_ + t * step_ + place_.base + (next_tile ? hnn::kTile : 0));
    for (size_t i = 0; i < hnn::kTile * sizeof(IO); i += 64) __builtin_prefetch(p + i, 0, 2);
  }

 private:
  HNN_INLINE void fetch(int64_t t) {
    const IO* from = data_ + t * step_;
    if (whole_) {
      from += place_.base;
      for (int i = 0; i < hnn::kTile; ++i) row_[i] = widen(from[i]);
    } else {
      for (int i = 0; i < count_; ++i) row_[i] = widen(from[place_.at(i)]);
    }
  }
  const IO* data_;
  int64_t step_;
  int count_;
  bool whole_ = false;
  Place place_;
  alignas(64) C row_[hnn::kTile];
};

// Writes a tile of a train, step by step; a train that is absent takes its rows and drops them.
template <class IO>
class Writer {
  using C = Compute<IO>;
  static constexpr bool kAsIs = sizeof(IO) == sizeof(C);

 public:
  Writer(const hnn::Train& train, int64_t first, int count)
      : data_(static_cast<IO*>(train.data)), step_(train.step), count_(count) {
    if (!data_) return;
    place_.find(train.layout, first, count);
    whole_ = place_.dense && count == hnn::kTile;
    streaming_ = train.streaming && whole_;
    in_place_ = kAsIs && whole_ && !streaming_;
  }
  // Where the kernel puts the kTile values of step t; commit(t) after the last one.
  HNN_INLINE C* row(int64_t t) {
    if constexpr (kAsIs) {
      if (in_place_) return data_ + t * step_ + place_.base;
    }
    return row_;
  }
  HNN_INLINE void commit(int64_t t) {
    if (!data_ || in_place_) return;
    IO* to = data_ + t * step_;
    if (whole_) {
      to += place_.base;
      const void* from = row_;
      alignas(64) IO packed[hnn::kTile];
      if constexpr (!kAsIs) {
        for (int i = 0; i < hnn::kTile; ++i) packed[i] = narrow<IO>(row_[i]);
        from = packed;
      }
      if (streaming_) {
        typedef char Bytes __attribute__((vector_size(HNN_VECTOR_BYTES)));
        for (size_t i = 0; i < sizeof packed; i += HNN_VECTOR_BYTES) {
          Bytes v;
          __builtin_memcpy(&v, static_cast<const char*>(from) + i, sizeof v);
          stream(reinterpret_cast<char*>(to) + i, v);
        }
      } else {
        __builtin_memcpy(to, from, sizeof packed);
      }
    } else {
      for (int i = 0; i < count_; ++i) to[place_.at(i)] = narrow<IO>(row_[i]);
    }
  }

 private:
  IO* data_;
  int64_t step_;
  int count_;
  bool whole_ = false, streaming_ = false, in_place_ = false;
  Place place_;
  alignas(64) C row_[hnn::kTile];
};

}  // namespace HNN_NAMESPACE
