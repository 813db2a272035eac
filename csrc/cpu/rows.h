// The rows of a tile in memory: kTile neurons of one step, in any layout and dtype.

namespace HNN_NAMESPACE {

using hnn::kBlock;
using hnn::kTile;

// Where the tile's neurons lie in one operand: `base` and consecutive, or each at its own offset.
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

// The tile's values of a per-neuron operand, kVectors<C> vectors; past `count` they are anything finite.
template <class C>
HNN_INLINE void gather(const hnn::PerNeuron& operand, int64_t first, int count, Vector<C>* to) {
  const C* data = static_cast<const C*>(operand.data);
  if (!data || operand.layout.uniform()) {
    const Vector<C> value = Vector<C>{} + (data ? data[0] : static_cast<C>(operand.value));
    for (int k = 0; k < kVectors<C>; ++k) to[k] = value;
  } else if (operand.layout.dense() && count == kTile) {
    for (int k = 0; k < kVectors<C>; ++k) to[k] = load(data + first + k * kLanes<C>);
  } else {
    Place place;
    place.find(operand.layout, first, count);
    alignas(64) C row[kTile] = {};
    for (int i = 0; i < count; ++i) row[i] = data[place.at(i)];
    for (int k = 0; k < kVectors<C>; ++k) to[k] = load(row + k * kLanes<C>);
  }
}
template <class C>
HNN_INLINE void scatter(const hnn::PerNeuron& operand, int64_t first, int count, const Vector<C>* from) {
  C* data = static_cast<C*>(operand.data);
  if (!data) return;
  if (operand.layout.dense() && count == kTile) {
    for (int k = 0; k < kVectors<C>; ++k) store(data + first + k * kLanes<C>, from[k]);
  } else {
    Place place;
    place.find(operand.layout, first, count);
    alignas(64) C row[kTile];
    for (int k = 0; k < kVectors<C>; ++k) store(row + k * kLanes<C>, from[k]);
    for (int i = 0; i < count; ++i) data[place.at(i)] = row[i];
  }
}

// kTile values per step, `stride` elements from one step to the next; null where a stage has none to read or to write.
template <class C>
struct Rows {
  C* data = nullptr;
  int64_t stride = kTile;
  bool streaming = false;  // past the cache, by put()

  HNN_INLINE Vector<C> get(int64_t t, int k) const { return load(data + t * stride + k * kLanes<C>); }
  HNN_INLINE void set(int64_t t, int k, Vector<C> v) const { store(data + t * stride + k * kLanes<C>, v); }
  // A stage's last word on row t, which it does not read again.
  HNN_INLINE void put(int64_t t, int k, Vector<C> v) const {
    C* const at = data + t * stride + k * kLanes<C>;
    streaming ? stream(at, v) : store(at, v);
  }
  HNN_INLINE explicit operator bool() const { return data != nullptr; }
  HNN_INLINE Rows from(int64_t t) const { return {data ? data + t * stride : nullptr, stride, streaming}; }
};

// Rows to ask for, one with every step of another loop: the rows of a tile lie a whole step apart, which no hardware
// prefetcher follows. Into the L2 cache.
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

// Reads a tile of a train, up to kBlock steps at a time; a train that is absent reads as zeros.
template <class IO>
class Reader {
  using C = Compute<IO>;

 public:
  Reader(const hnn::Train& train, int64_t first, int count)
      : data_(static_cast<const IO*>(train.data)), step_(train.step), count_(count) {
    if (data_) {
      place_.find(train.layout, first, count);
      whole_ = place_.dense && count == kTile;
      in_place_ = sizeof(IO) == sizeof(C) && whole_ && !train.constant;
    }
    if (in_place_) return;
    const int rows = data_ && !train.constant ? kBlock : 1;
    if (!data_ || count < kTile) __builtin_memset(block_, 0, rows * kTile * sizeof(C));  // so that all lanes are finite
    if (train.constant && data_) fetch(0, block_);
    varies_ = data_ && !train.constant;
  }
  // Steps [t, t + steps): in place where they lie there as they are, else converted into a block of rows.
  HNN_INLINE Rows<C> rows(int64_t t, int64_t steps) {
    if constexpr (sizeof(IO) == sizeof(C)) {
      if (in_place_) return {const_cast<C*>(data_) + t * step_ + place_.base, step_};
    }
    if (!varies_) return {block_, 0};
    for (int64_t i = 0; i < steps; ++i) fetch(t + i, block_ + i * kTile);
    return {block_};
  }
  // Row t of this tile, or of the next one, which lies just behind it, and then `direction` steps on at a time.
  HNN_INLINE Ahead ahead(int64_t t, int direction, bool next_tile) const {
    if (!whole_) return {};
    return {data_ + t * step_ + place_.base + (next_tile ? kTile : 0),
            direction * step_ * static_cast<int64_t>(sizeof(IO)), kTile * sizeof(IO)};
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
  const IO* data_;
  int64_t step_;
  int count_;
  bool whole_ = false, in_place_ = false, varies_ = false;
  Place place_;
  alignas(64) C block_[kTile * kBlock];
};

// Writes a tile of a train, up to kBlock steps at a time; a train that is absent takes its rows and drops them.
template <class IO>
class Writer {
  using C = Compute<IO>;
  static constexpr bool kAsIs = sizeof(IO) == sizeof(C);

 public:
  Writer(const hnn::Train& train, int64_t first, int count)
      : data_(static_cast<IO*>(train.data)), step_(train.step), count_(count) {
    if (!data_) return;
    place_.find(train.layout, first, count);
    whole_ = place_.dense && count == kTile;
    streaming_ = train.streaming && whole_;
    in_place_ = kAsIs && whole_;
  }
  // Where a stage puts the steps from t on; commit() after it.
  HNN_INLINE Rows<C> rows(int64_t t) {
    if constexpr (kAsIs) {
      if (in_place_) return {data_ + t * step_ + place_.base, step_, streaming_};
    }
    return {block_};
  }
  HNN_INLINE void commit(int64_t t, int64_t steps) {
    if (!data_ || in_place_) return;
    for (int64_t i = 0; i < steps; ++i) {
      IO* const to = data_ + (t + i) * step_;
      const C* const row = block_ + i * kTile;
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
  IO* data_;
  int64_t step_;
  int count_;
  bool whole_ = false, streaming_ = false, in_place_ = false;
  Place place_;
  alignas(64) C block_[kTile * kBlock];
};

}  // namespace HNN_NAMESPACE
