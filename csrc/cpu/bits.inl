// Spike trains as bits. A row begins with a byte of its own, lowest bit first.
//
// Included by body.inl, after coding.inl.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

// Up to 64 bits from a row, from a byte on; bytes behind the row are zeros.
HNN_INLINE uint64_t bits_at(const uint8_t* row, int64_t row_bytes, int64_t byte) {
  uint64_t word = 0;
  if (row_bytes - byte >= 8) {
    __builtin_memcpy(&word, row + byte, 8);
  } else {
    for (int64_t i = 0; i < row_bytes - byte; ++i) word |= static_cast<uint64_t>(row[byte + i]) << 8 * i;
  }
  return word;
}

// Packs whole words of 64 values, and returns how many values these are.
template <class IO>
HNN_INLINE int64_t pack_words(const IO* x, int64_t n, uint8_t* bits, bool& valid) {
  alignas(64) uint8_t spikes[64];
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    uint8_t other = 0;
    for (int j = 0; j < 64; ++j) {
      const auto value = widen(x[i + j]);
      spikes[j] = value != 0;
      other |= (value != 0) & (value != 1);
    }
    valid &= !other;
    for (int j = 0; j < 8; ++j) {
      // The product moves the lowest bit of byte k to bit 56 + k.
      uint64_t eight;
      __builtin_memcpy(&eight, spikes + 8 * j, 8);
      bits[i / 8 + j] = static_cast<uint8_t>(eight * 0x0102040810204080u >> 56);
    }
  }
  return i;
}
#ifdef HNN_SIGNS
HNN_INLINE int64_t pack_words(const float* x, int64_t n, uint8_t* bits, bool& valid) {
  Vector<int32_t> other = {};
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    uint64_t word = 0;
    for (int j = 0; j < 64; j += kLanes<float>) {
      const VectorF value = load(x + i + j);
      const auto spike = value != VectorF{};
      other |= spike & (value != VectorF{} + 1);
      word |= static_cast<uint64_t>(static_cast<uint32_t>(HNN_SIGNS(spike))) << j;
    }
    store(bits + i / 8, word);
  }
  for (int k = 0; k < kLanes<float>; ++k) valid &= !other[k];
  return i;
}
#endif
template <class IO>
bool pack_values(const IO* x, int64_t n, uint8_t* bits) {
  bool valid = true;
  for (int64_t i = pack_words(x, n, bits, valid); i < n; i += 8) {
    uint8_t byte = 0;
    for (int j = 0; j < least(8, n - i); ++j) {
      const auto value = widen(x[i + j]);
      byte |= (value != 0) << j;
      valid &= value == 0 || value == 1;
    }
    bits[i / 8] = byte;
  }
  return valid;
}
bool pack(int dtype, const void* values, int64_t n, uint8_t* bits) {
  bool valid = true;
  choose_dtype(static_cast<hnn::DType>(dtype), [&](auto type) {
    valid = pack_values(static_cast<const typename decltype(type)::type*>(values), n, bits);
  });
  return valid;
}

// The eight values of a byte, each as an integer of its size.
template <class U>
struct EightOf {
  typedef U type __attribute__((vector_size(8 * sizeof(U))));
};
template <class U, class IO>
HNN_INLINE void unpack_values(const uint8_t* bits, int64_t n, IO* x) {
  using Eight = typename EightOf<U>::type;
  const Eight places = {1, 2, 4, 8, 16, 32, 64, 128};
  const IO value = narrow<IO>(1);
  U one;
  __builtin_memcpy(&one, &value, sizeof one);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) store(x + i, (((Eight{} + bits[i / 8]) & places) != 0) & one);
  for (; i < n; ++i) x[i] = bits[i / 8] >> i % 8 & 1 ? value : IO{};
}
void unpack(int dtype, const uint8_t* bits, int64_t n, void* values) {
  choose_dtype(static_cast<hnn::DType>(dtype), [&](auto type) {
    using IO = typename decltype(type)::type;
    using U = std::conditional_t<sizeof(IO) == 8, uint64_t, std::conditional_t<sizeof(IO) == 4, uint32_t, uint16_t>>;
    unpack_values<U>(bits, n, static_cast<IO*>(values));
  });
}

int64_t count(const uint8_t* bits, int64_t bytes) {
  int64_t total = 0;
  for (int64_t i = 0; i < bytes; i += 8) total += __builtin_popcountll(bits_at(bits, bytes, i));
  return total;
}

// Transposes 64 words of 64 bits: swaps ever smaller squares beside the diagonal.
HNN_INLINE void transpose_square(uint64_t (&word)[64]) {
  uint64_t mask = 0xFFFFFFFFu;
  for (int side = 32; side; side >>= 1, mask ^= mask << side) {
    for (int i = 0; i < 64; i += 2 * side) {
      for (int j = i; j < i + side; ++j) {
        const uint64_t moved = (word[j] >> side ^ word[j + side]) & mask;
        word[j] ^= moved << side;
        word[j + side] ^= moved;
      }
    }
  }
}
void transpose(const uint8_t* bits, int64_t rows, int64_t row_bytes, int64_t first, int64_t count, uint8_t* out,
               int64_t out_bytes) {
  alignas(64) uint64_t square[64];
  for (int64_t r = 0; r < rows; r += 64) {
    const int64_t height = least(64, rows - r), bytes = (height + 7) / 8;
    for (int64_t c = 0; c < count; c += 64) {
      for (int64_t i = 0; i < 64; ++i) {
        square[i] = i < height ? bits_at(bits + (r + i) * row_bytes, row_bytes, (first + c) / 8) : 0;
      }
      transpose_square(square);
      for (int64_t i = 0; i < least(64, count - c); ++i) {
        __builtin_memcpy(out + (c + i) * out_bytes + r / 8, square + i, bytes);
      }
    }
  }
}

// Writes offset + scale * i for each bit i < 64 of the word that is set, and returns the end. It writes by eights,
// since a processor cannot predict the number of bits: there is room for seven more.
HNN_INLINE uint32_t* list(uint64_t word, uint32_t offset, uint32_t scale, uint32_t* to) {
  const int64_t count = __builtin_popcountll(word);
  for (int64_t i = 0; i < count; i += hnn::kListed) {
    unrolled<hnn::kListed>([&](auto k) HNN_LAMBDA {
      to[i + k] = offset + scale * static_cast<uint32_t>(__builtin_ctzll(word | uint64_t{1} << 63));
      word &= word - 1;
    });
  }
  return to + count;
}

}  // namespace HNN_NAMESPACE
