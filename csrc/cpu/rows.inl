// The rows of a tile in memory: kTile neurons of one step, in any layout and dtype.
//
// Included by body.inl, after vector.inl.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

using hnn::kBlock;
using hnn::kTile;

// The places of the tile's neurons in one operand: consecutive from `base` on, or each at its own offset.
struct Place {
  int64_t base = 0;
  bool dense = false;
  int64_t offset[kTile];

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

inline bool is_absent_or_one(const hnn::PerNeuron& operand) { return !operand.data || operand.layout.uniform(); }

// The tile's values of an operand of any layout. Not inlined, because it is rare.
template <class C>
__attribute__((noinline)) void gather_each(const hnn::PerNeuron& operand, int64_t first, int count, C* row) {
  Place place;
  place.find(operand.layout, first, count);
  for (int i = 0; i < count; ++i) row[i] = static_cast<const C*>(operand.data)[place.at(i)];
  for (int i = count; i < kTile; ++i) row[i] = 0;
}
template <class C>
__attribute__((noinline)) void scatter_each(const hnn::PerNeuron& operand, int64_t first, int count, const C* row) {
  Place place;
  place.find(operand.layout, first, count);
  for (int i = 0; i < count; ++i) static_cast<C*>(operand.data)[place.at(i)] = row[i];
}

// Calls set(k, v) for the tile's kVectors<C> vectors of a per-neuron operand. Past `count` the values are arbitrary,
// but finite.
template <class C, class Set>
HNN_INLINE void gather(const hnn::PerNeuron& operand, int64_t first, int count, Set set) {
  const C* data = static_cast<const C*>(operand.data);
  if (is_absent_or_one(operand)) {
    const Vector<C> value = Vector<C>{} + (data ? data[0] : static_cast<C>(operand.value));
    unrolled<kVectors<C>>([&](auto k) HNN_LAMBDA { set(k, value); });
    return;
  }
  alignas(64) C row[kTile];
  if (operand.layout.dense() && count == kTile) {
    data += first;
  } else {
    gather_each<C>(operand, first, count, row);
    data = row;
  }
  unrolled<kVectors<C>>([&](auto k) HNN_LAMBDA { set(k, load(data + k * kLanes<C>)); });
}
// Writes the tile's values from get(k), if the operand is there.
template <class C, class Get>
HNN_INLINE void scatter(const hnn::PerNeuron& operand, int64_t first, int count, Get get) {
  if (!operand.data) return;
  alignas(64) C row[kTile];
  const bool whole = operand.layout.dense() && count == kTile;
  C* const to = whole ? static_cast<C*>(operand.data) + first : row;
  unrolled<kVectors<C>>([&](auto k) HNN_LAMBDA { store(to + k * kLanes<C>, get(k)); });
  if (!whole) scatter_each<C>(operand, first, count, row);
}

// With AVX2 few registers are left beside a state, and stores past the cache that stand in a queue with others hold
// them up. There a stage writes into the L1 cache, and what goes past the cache does so when a block of rows is
// complete.
constexpr bool kByBlocks = HNN_VECTOR_BYTES == 32;

// kTile values per step, `stride` elements from one step to the next. Null where a stage reads or writes none.
template <class C>
struct Rows {
  C* data = nullptr;
  int64_t stride = kTile;
  bool streaming = false;  // put() stores past the cache

  HNN_INLINE Vector<C> get(int64_t t, int k) const { return load(data + t * stride + k * kLanes<C>); }
  HNN_INLINE void set(int64_t t, int k, Vector<C> v) const { store(data + t * stride + k * kLanes<C>, v); }
  // Writes vector k of row t, which the stage does not read again.
  HNN_INLINE void put(int64_t t, int k, Vector<C> v) const {
    C* const at = data + t * stride + k * kLanes<C>;
    if (!kByBlocks && __builtin_expect(streaming, 0)) {
      stream(at, v);
    } else {
      store(at, v);
    }
  }
  HNN_INLINE explicit operator bool() const { return data != nullptr; }
  HNN_INLINE Rows from(int64_t t) const { return {data ? data + t * stride : nullptr, stride, streaming}; }
};

// Prefetches rows, one with every step of another loop. The rows of a tile lie a whole time step apart, which no
// hardware prefetcher follows. They go into the L2 cache.
class Ahead {
 public:
  Ahead() = default;
  Ahead(const void* row, int64_t step_bytes, size_t bytes)
      : at_(static_cast<const char*>(row)), step_(step_bytes), bytes_(bytes) {}
  HNN_INLINE void next() {
    if (!at_) return;
    for (size_t i = 0; i < bytes_; i += 64) __builtin_prefetch(at_ + i, 0, 2);
    at_ += step_;
  }

 private:
  const char* at_ = nullptr;
  int64_t step_ = 0;
  size_t bytes_ = 0;
};

// Reads a tile of a train, up to kBlock steps at a time. A train that is absent reads as zeros.
template <class IO>
class Reader {
  using C = Compute<IO>;

 public:
  explicit Reader(const hnn::Train& train)
      : train_(train), data_(static_cast<const IO*>(train.data)), step_(train.step), varies_(data_ && !train.constant) {
    if (!data_) __builtin_memset(block_, 0, kTile * sizeof(C));
  }
  Reader(const hnn::Train& train, int64_t first, int count) : Reader(train) { move_to(first, count); }
  void move_to(int64_t first, int count) {
    if (!data_) return;
    count_ = count;
    place_.find(train_.layout, first, count);
    whole_ = place_.dense && count == kTile;
    in_place_ = sizeof(IO) == sizeof(C) && whole_ && varies_;
    if (in_place_) return;
    if (count < kTile) __builtin_memset(block_, 0, sizeof block_);  // so that all lanes are finite
    if (!varies_) fetch(0, block_);
  }
  // Steps [t, t + steps): in place where layout and dtype allow it, otherwise converted into a block of rows.
  HNN_INLINE Rows<C> rows(int64_t t, int64_t steps) {
    if constexpr (sizeof(IO) == sizeof(C)) {
      if (in_place_) return {const_cast<C*>(data_) + t * step_ + place_.base, step_};
    }
    if (!varies_) return {block_, 0};
    for (int64_t i = 0; i < steps; ++i) fetch(t + i, block_ + i * kTile);
    return {block_};
  }
  // Prefetches row t of this tile (or of the next one, which lies just behind it), then row t + direction, and so on.
  HNN_INLINE Ahead ahead(int64_t t, int direction, bool next_tile) const {
    if (!whole_ || !train_.fetched) return {};
    return {data_ + t * step_ + place_.base + (next_tile ? kTile : 0),
            direction * step_ * static_cast<int64_t>(sizeof(IO)), kTile * sizeof(IO)};
  }
  // Prefetches for a single pass over a large train of so many steps: rows from `next` on, or, where the train has
  // ended, the next tile's first ones.
  HNN_INLINE Ahead ahead_once(int64_t next, int64_t steps) const {
    if (!train_.large) return {};
    return next < steps ? ahead(next, 1, false) : ahead(0, 1, true);
  }

 private:
  HNN_INLINE void fetch(int64_t t, C* row) {
    const IO* from = data_ + t * step_;
    if (whole_) {
      from += place_.base;
      for (int i = 0; i < kTile; ++i) row[i] = widen(from[i]);
    } else {
      for (int i = 0; i < count_; ++i) row[i] = widen(from[place_.at(i)]);
    }
  }
  const hnn::Train& train_;
  const IO* const data_;
  const int64_t step_;
  const bool varies_;
  int count_ = 0;
  bool whole_ = false, in_place_ = false;
  Place place_;
  alignas(64) C block_[kTile * kBlock];
};

// Writes a tile of a train, up to kBlock steps at a time. A train that is absent takes its rows and drops them.
template <class IO>
class Writer {
  using C = Compute<IO>;
  static constexpr bool kAsIs = sizeof(IO) == sizeof(C);

 public:
  explicit Writer(const hnn::Train& train) : train_(train), data_(static_cast<IO*>(train.data)), step_(train.step) {}
  Writer(const hnn::Train& train, int64_t first, int count) : Writer(train) { move_to(first, count); }
  void move_to(int64_t first, int count) {
    if (!data_) return;
    count_ = count;
    place_.find(train_.layout, first, count);
    whole_ = place_.dense && count == kTile;
    streaming_ = train_.large && whole_;
    in_place_ = kAsIs && whole_ && !(streaming_ && kByBlocks);
  }
  // The rows into which a stage writes the steps from t on: in place, or in a block, or in place of it in `spare`.
  // commit() must follow, with the rows where they were spare.
  HNN_INLINE Rows<C> rows(int64_t t, const Rows<C>& spare = {}) {
    if constexpr (kAsIs) {
      if (in_place_) return {data_ + t * step_ + place_.base, step_, streaming_};
    }
    if (spare) return spare;
    return {block_};
  }
  HNN_INLINE void commit(int64_t t, int64_t steps) { commit(t, steps, {block_}); }
  HNN_INLINE void commit(int64_t t, int64_t steps, const Rows<C>& rows) {
    if (!data_ || in_place_) return;
    for (int64_t i = 0; i < steps; ++i) {
      IO* const to = data_ + (t + i) * step_;
      const C* const row = rows.data + i * rows.stride;
      if (whole_) {
        move(row, to + place_.base);
      } else {
        for (int j = 0; j < count_; ++j) to[place_.at(j)] = narrow<IO>(row[j]);
      }
    }
  }

 private:
  HNN_INLINE void move(const C* row, IO* to) const {
    const void* from = row;
    alignas(64) IO packed[kTile];
    if constexpr (!kAsIs) {
      for (int i = 0; i < kTile; ++i) packed[i] = narrow<IO>(row[i]);
      from = packed;
    }
    if (!streaming_) {
      __builtin_memcpy(to, from, sizeof packed);
      return;
    }
    typedef char Bytes __attribute__((vector_size(HNN_VECTOR_BYTES)));
    for (size_t i = 0; i < sizeof packed; i += HNN_VECTOR_BYTES) {
      Bytes v;
      __builtin_memcpy(&v, static_cast<const char*>(from) + i, sizeof v);
      stream(reinterpret_cast<char*>(to) + i, v);
    }
  }
  const hnn::Train& train_;
  IO* const data_;
  const int64_t step_;
  int count_ = 0;
  bool whole_ = false, streaming_ = false, in_place_ = false;
  Place place_;
  alignas(64) C block_[kTile * kBlock];
};

}  // namespace HNN_NAMESPACE
