// Products with spikes: sums of the values that meet a spike.
//
// Included by body.inl, after bits.inl.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

template <class C>
constexpr int kOutputs = hnn::kBlockBytes / sizeof(C);
template <class C>
constexpr int kSums = hnn::kBlockBytes / HNN_VECTOR_BYTES;

// sum += the block of outputs at base + event, for each event. Two events at a time halve the chain of additions, and
// are read at once: the loads are what binds the loop.
template <class C>
HNN_INLINE void add_events(const C* base, const uint32_t* event, const uint32_t* end, Vector<C> (&sum)[kSums<C>]) {
  for (; end - event >= 2; event += 2) {
    uint64_t two;
    __builtin_memcpy(&two, event, 8);
    const C *const p = base + static_cast<uint32_t>(two), *const q = base + (two >> 32);
    unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { sum[k] += load(p + k * kLanes<C>) + load(q + k * kLanes<C>); });
  }
  if (event < end) {
    const C* const p = base + *event;
    unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { sum[k] += load(p + k * kLanes<C>); });
  }
}

// -- products with matrices -------------------------------------------------------------------------------------------

void arrange(const hnn::ArrangeCall& call, int64_t first_block, int64_t last_block) {
  choose_dtype(static_cast<hnn::DType>(call.dtype), [&](auto type) {
    using IO = typename decltype(type)::type;
    using C = Compute<IO>;
    constexpr int64_t n = kOutputs<C>;
    const IO* const from = static_cast<const IO*>(call.from);
    for (int64_t block = first_block; block < last_block; ++block) {
      C* const to = static_cast<C*>(call.to) + block * call.inputs * n;
      const int64_t outputs = least(n, call.outputs - block * n);
      // Few inputs at a time, so that lines that are read across stay in the cache until all of them is read.
      for (int64_t i = 0; i < call.inputs; i += 16) {
        const int64_t inputs = least(16, call.inputs - i);
        const auto rows = [&](int64_t stride) HNN_LAMBDA {
          for (int64_t k = i; k < i + inputs; ++k) {
            const IO* const at = from + k % call.channels * call.input_stride + k / call.channels * call.window_stride +
                                 block * n * stride;
            int64_t j = 0;
            for (; j + 4 <= outputs; j += 4) {  // one store of four takes a third less than four stores
              const IO* const four = at + j * stride;
              const C values[4] = {widen(four[0]), widen(four[stride]), widen(four[2 * stride]),
                                   widen(four[3 * stride])};
              __builtin_memcpy(to + k * n + j, values, sizeof values);
            }
            for (; j < outputs; ++j) to[k * n + j] = widen(at[j * stride]);
          }
        };
        call.output_stride == 1 ? rows(1) : rows(call.output_stride);
        for (int64_t k = i; k < i + inputs; ++k) {
          for (int64_t j = outputs; j < n; ++j) to[k * n + j] = 0;
        }
      }
    }
  });
}

template <class C, class IO>
HNN_INLINE void start_from(const IO* bias, int64_t outputs, Vector<C> (&first)[kSums<C>]) {
  alignas(64) C row[kOutputs<C>] = {};
  for (int64_t j = 0; bias && j < outputs; ++j) row[j] = widen(bias[j]);
  unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { first[k] = load(row + k * kLanes<C>); });
}
// The sums of a block of outputs, as many as there are.
template <class IO, class C = Compute<IO>>
HNN_INLINE void write(IO* to, int64_t outputs, const Vector<C> (&sum)[kSums<C>]) {
  if constexpr (sizeof(IO) == sizeof(C)) {
    if (outputs == kOutputs<C>) {
      unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { store(to + k * kLanes<C>, sum[k]); });
      return;
    }
  }
  alignas(64) C row[kOutputs<C>];
  unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { store(row + k * kLanes<C>, sum[k]); });
  for (int64_t j = 0; j < outputs; ++j) to[j] = narrow<IO>(row[j]);
}

// Asks for some bytes that will be written.
constexpr int64_t kLine = 64;
template <int kBytes>
HNN_INLINE void ask_for(const void* to) {
  const char* const at = static_cast<const char*>(to);
  for (int i = 0; i < kBytes; i += kLine) __builtin_prefetch(at + i, 1);
  __builtin_prefetch(at + kBytes - 1, 1);
}

// For a block of outputs, and within it for some inputs, the values of both stay in the L1 cache while all rows pass.
template <class IO>
void product_of(const hnn::ProductCall& call) {
  using C = Compute<IO>;
  constexpr int64_t n = kOutputs<C>, kInputs = hnn::kProductInputs;
  const int64_t parts = (call.inputs + kInputs - 1) / kInputs;
  uint32_t *at = call.events, *start = call.starts;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * kInputs, last = least(call.inputs, first + kInputs);
    for (int64_t r = 0; r < call.rows; ++r) {
      *start++ = static_cast<uint32_t>(at - call.events);
      for (int64_t i = first; i < last; i += 64) {
        uint64_t word = bits_at(call.bits + r * call.row_bytes, call.row_bytes, i / 8);
        if (last - i < 64) word &= ~(~uint64_t{0} << (last - i));
        at = list(word, static_cast<uint32_t>(i * n), n, at);
      }
    }
  }
  *start = static_cast<uint32_t>(at - call.events);

  const IO* const bias = static_cast<const IO*>(call.bias);
  C* const sums = static_cast<C*>(call.sums);
  for (int64_t block = 0; block * n < call.outputs; ++block) {
    const C* const values = static_cast<const C*>(call.values) + block * call.inputs * n;
    const int64_t outputs = least(n, call.outputs - block * n);
    IO* const out = static_cast<IO*>(call.out) + block * n * call.output_stride;
    Vector<C> first[kSums<C>];
    start_from<C>(bias ? bias + block * n : nullptr, outputs, first);
    for (int64_t part = 0; part < parts; ++part) {
      const uint32_t* const starts = call.starts + part * call.rows;
      for (int64_t r = 0; r < call.rows; ++r) {
        Vector<C> sum[kSums<C>];
        C* const kept = sums + r * n;
        unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { sum[k] = part ? load(kept + k * kLanes<C>) : first[k]; });
        // The rows of `out` are too far apart for the processor to ask for them ahead.
        if (part + 1 == parts && call.output_stride == 1) ask_for<n * sizeof(IO)>(out + (r + 8) * call.row_stride);
        add_events<C>(values, call.events + starts[r], call.events + starts[r + 1], sum);
        if (part + 1 == parts && call.output_stride == 1) {
          write(out + r * call.row_stride, outputs, sum);
        } else {
          unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { store(kept + k * kLanes<C>, sum[k]); });
        }
      }
    }
    if (call.output_stride == 1) continue;
    for (int64_t j = 0; j < outputs; ++j) {
      IO* const to = out + j * call.output_stride;
      for (int64_t r = 0; r < call.rows; ++r) to[r * call.row_stride] = narrow<IO>(sums[r * n + j]);
    }
  }
}
void product(const hnn::ProductCall& call) {
  choose_dtype(static_cast<hnn::DType>(call.dtype),
               [&](auto type) { product_of<typename decltype(type)::type>(call); });
}

// -- convolutions -----------------------------------------------------------------------------------------------------

// Calls f(place in the row, word of up to 32 channels, first of them) for each pixel of a row of bits.
template <class F>
HNN_INLINE void each_pixel(const hnn::ConvolutionCall& call, const uint8_t* row, int64_t x, F f) {
  for (int64_t c = 0; c < call.channels; c += 32) {
    const int64_t bit = x * call.channels + c, here = least(32, call.channels - c);
    f(bits_at(row, call.row_bytes, bit / 8) >> bit % 8 & (~uint64_t{0} >> (64 - here)), c);
  }
}

// Lists the events of each pixel.
HNN_INLINE void list_pixels(const hnn::ConvolutionCall& call, int64_t n) {
  uint32_t *at = call.events, *start = call.starts;
  for (int64_t y = 0; y < call.height; ++y) {
    for (int64_t x = 0; x < call.width; ++x) {
      *start++ = static_cast<uint32_t>(at - call.events);
      each_pixel(call, call.bits + y * call.row_bytes, x, [&](uint64_t word, int64_t c) HNN_LAMBDA {
        at = list(word, static_cast<uint32_t>((x * call.channels + c) * n), n, at);
      });
    }
  }
  *start = static_cast<uint32_t>(at - call.events);
}
// Lists the events that rows of outputs meet, from the row y on, and returns the end of these rows: those of all rows
// of the image together, column by column, so that the events of a window follow each other. An output then takes one
// loop and not one for each row of its window: their ends cannot be predicted.
HNN_INLINE int64_t list_columns(const hnn::ConvolutionCall& call, int64_t n, int64_t y) {
  uint32_t *at = call.row_events, *start = call.row_starts;
  for (; y < call.out_height && at - call.row_events < hnn::kRowEvents; ++y) {
    const int64_t above = y - call.top;
    const int64_t from_row = above < 0 ? -above : 0, to_row = least(call.kernel_height, call.height - above);
    for (int64_t x = 0; x < call.width; ++x) {
      *start++ = static_cast<uint32_t>(at - call.row_events);
      for (int64_t row = from_row; row < to_row; ++row) {
        const uint32_t* const pixel = call.starts + (above + row) * call.width + x;
        const uint32_t *from = call.events + pixel[0], *const to = call.events + pixel[1];
        uint32_t* const end = at + (to - from);
        const uint32_t offset = static_cast<uint32_t>(row * call.kernel_width * call.channels * n);
        do {  // nearly always once
          EightOf<uint32_t>::type some;
          __builtin_memcpy(&some, from, sizeof some);
          store(at, some + offset);
          from += hnn::kListed, at += hnn::kListed;
        } while (from < to);
        at = end;
      }
    }
    *start++ = static_cast<uint32_t>(at - call.row_events);
  }
  return y;
}

template <class IO>
void convolution_of(const hnn::ConvolutionCall& call) {
  using C = Compute<IO>;
  constexpr int64_t n = kOutputs<C>;
  const IO* const bias = static_cast<const IO*>(call.bias);
  const int64_t inputs = call.kernel_height * call.kernel_width * call.channels;
  list_pixels(call, n);
  for (int64_t first_row = 0, last_row; first_row < call.out_height; first_row = last_row) {
    last_row = list_columns(call, n, first_row);
    for (int64_t block = 0; block * n < call.outputs; ++block) {
      const C* const values = static_cast<const C*>(call.values) + block * inputs * n;
      const int64_t outputs = least(n, call.outputs - block * n);
      IO* out = static_cast<IO*>(call.out) + first_row * call.out_width * call.outputs + block * n;
      Vector<C> first[kSums<C>];
      start_from<C>(bias ? bias + block * n : nullptr, outputs, first);
      const uint32_t* starts = call.row_starts;
      for (int64_t y = first_row; y < last_row; ++y, starts += call.width + 1) {
        for (int64_t x = 0; x < call.out_width; ++x, out += call.outputs) {
          const int64_t before = x - call.left;
          const int64_t from = before < 0 ? 0 : before, to = least(call.width, before + call.kernel_width);
          Vector<C> sum[kSums<C>];
          unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { sum[k] = first[k]; });
          if (from < to) {
            const C* const base = values - before * call.channels * n;
            add_events<C>(base, call.row_events + starts[from], call.row_events + starts[to], sum);
          }
          write(out, outputs, sum);
        }
      }
    }
  }
}
void convolution(const hnn::ConvolutionCall& call) {
  choose_dtype(static_cast<hnn::DType>(call.dtype),
               [&](auto type) { convolution_of<typename decltype(type)::type>(call); });
}

// A spike meets a window's row of outputs, whose gradients follow each other from its right column to its left one.
// With columns of zeros on both sides every spike meets a whole row.
template <class IO>
void convolution_backward_of(const hnn::ConvolutionCall& call) {
  using C = Compute<IO>;
  constexpr int64_t n = kOutputs<C>;
  const int64_t side = call.kernel_width - 1, width = call.out_width + 2 * side;
  const int64_t blocks = (call.kernel_width * call.outputs + n - 1) / n, places = call.height * call.width;
  C *const sums = static_cast<C*>(call.sums), *const padded = static_cast<C*>(call.padded);
  const IO* grad = static_cast<const IO*>(call.grad_out);
  const uint8_t* bits = call.bits;
  for (int64_t i = 0; i < call.channels * call.kernel_height * blocks * n; ++i) sums[i] = 0;
  for (int64_t i = 0; i < call.out_height * width * call.outputs + n; ++i) padded[i] = 0;
  for (int64_t image = 0; image < call.images; ++image) {
    for (int64_t y = 0; y < call.out_height; ++y) {
      C* const row = padded + (y * width + side) * call.outputs;
      for (int64_t i = 0; i < call.out_width * call.outputs; ++i) row[i] = widen(*grad++);
    }
    uint32_t* const starts = call.starts;  // [height + 1, channels]
    for (int64_t c = 0; c < call.channels; ++c) starts[c] = 0;
    for (int64_t y = 0; y < call.height; ++y, bits += call.row_bytes) {
      uint32_t* const ends = starts + (y + 1) * call.channels;
      for (int64_t c = 0; c < call.channels; ++c) ends[c] = ends[c - call.channels];
      for (int64_t x = 0; x < call.width; ++x) {
        const uint32_t place = static_cast<uint32_t>((y * width + x) * call.outputs);
        each_pixel(call, bits, x, [&](uint64_t word, int64_t c) HNN_LAMBDA {
          for (; word; word &= word - 1) {
            const int64_t channel = c + __builtin_ctzll(word);
            call.events[channel * places + ends[channel]++] = place;
          }
        });
      }
    }
    for (int64_t c = 0; c < call.channels; ++c) {
      for (int64_t row = 0; row < call.kernel_height; ++row) {
        // Rows of the image that meet an output through this row of the kernel.
        const int64_t shift = call.top - row, from = shift < 0 ? -shift : 0;
        const int64_t to = least(call.height, call.out_height - shift);
        if (from >= to) continue;
        const uint32_t* const events = call.events + c * places;
        const uint32_t *const first = events + starts[from * call.channels + c], *const last =
                                                                                     events +
                                                                                     starts[to * call.channels + c];
        for (int64_t block = 0; block < blocks; ++block) {
          C* const kept = sums + ((c * call.kernel_height + row) * blocks + block) * n;
          const C* const base = padded + (shift * width + call.left) * call.outputs + block * n;
          Vector<C> sum[kSums<C>];
          unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { sum[k] = load(kept + k * kLanes<C>); });
          add_events<C>(base, first, last, sum);
          unrolled<kSums<C>>([&](auto k) HNN_LAMBDA { store(kept + k * kLanes<C>, sum[k]); });
        }
      }
    }
  }
}
void convolution_backward(const hnn::ConvolutionCall& call) {
  choose_dtype(static_cast<hnn::DType>(call.dtype),
               [&](auto type) { convolution_backward_of<typename decltype(type)::type>(call); });
}

constexpr hnn::ProductKernels kProducts = {pack,    unpack,  count,       transpose,
                                           arrange, product, convolution, convolution_backward};

}  // namespace HNN_NAMESPACE
