// The blocks and segments in which a pass goes through time, and the scratch that it takes.
//
// Included by body.inl, after rows.inl.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls f(first neuron, count) for each tile.
template <class F>
void each_tile(int64_t neurons, int64_t begin, int64_t end, F f) {
  for (int64_t m = begin * kTile; m < end * kTile; m += kTile) f(m, static_cast<int>(least(neurons - m, kTile)));
  HNN_STREAM_FENCE();
}
// Scratch memory, handed out from front to back.
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

// The steps of a block: `length` is cut evenly into blocks of at most kBlock.
inline int64_t block_steps(int64_t length) {
  if (length <= kBlock) return length ? length : 1;
  const int64_t blocks = (length + kBlock - 1) / kBlock;
  return (length + blocks - 1) / blocks;
}

// The rows of a segment may take half of a common L2 cache.
constexpr int64_t kKeptBytes = 512 << 10;

// The segments of a window, which is cut from its beginning.
inline int64_t segments_of(int64_t window, int64_t segment) { return segment ? (window + segment - 1) / segment : 0; }

// While it lives, results of this thread that are too small for a normal number are 0. An Intel processor takes some
// hundred cycles for an operation with a subnormal number, and far from the threshold every density is at the end of
// the normal numbers, so that its product with a gradient is below. Numbers that are read stay as they are: a potential
// is compared with its threshold as forward compared it.
class FlushesToZero {
 public:
#ifdef __SSE__
  FlushesToZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON); }
  ~FlushesToZero() { _mm_setcsr(before_); }

 private:
  const unsigned before_;
#else
  FlushesToZero() {}
#endif
  FlushesToZero(const FlushesToZero&) = delete;
};

// Leads a pass backward through the windows and segments of a call. The pass has load_checkpoint(w), the state before
// window w > 0; keep_start(slot) and restore_start(slot), the state in one of segments_of() + 1 slots;
// recompute(begin, steps, keep), which computes a segment forward and keeps what its adjoint needs, or only the state;
// and reverse(begin, steps).
template <class Pass>
void walk_back(Pass& pass, int64_t steps, int64_t window, int64_t segment) {
  const int64_t windows = (steps + window - 1) / window, initial = segments_of(window, segment);
  if (windows > 1) pass.keep_start(initial);
  for (int64_t w = windows - 1; w >= 0; --w) {
    if (w > 0) pass.load_checkpoint(w);
    if (w == 0 && windows > 1) pass.restore_start(initial);
    const int64_t from = w * window, length = least(window, steps - from);
    // Where there is one segment, no division is made: it takes as long as a step.
    const int64_t segments = length <= segment ? 1 : segments_of(length, segment);
    for (int64_t s = 0; s + 1 < segments; ++s) {
      pass.keep_start(s);
      pass.recompute(from + s * segment, segment, false);
    }
    for (int64_t s = segments - 1; s >= 0; --s) {
      if (s + 1 < segments) pass.restore_start(s);
      const int64_t begin = from + s * segment, count = least(segment, from + length - begin);
      pass.recompute(begin, count, true);
      const FlushesToZero in_reverse;
      pass.reverse(begin, count);
    }
  }
}

}  // namespace HNN_NAMESPACE
