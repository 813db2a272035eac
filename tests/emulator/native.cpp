// What numpy lacks: multiply-adds with one rounding, high halves of products, and memory by a list of addresses.
#include <cmath>
#include <cstdint>
#include <cstring>

#define EXPORT extern "C" void

EXPORT hnn_fma_f32(const float* a, const float* b, const float* c, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = std::fma(a[i], b[i], c[i]);
}
EXPORT hnn_fma_f64(const double* a, const double* b, const double* c, double* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = std::fma(a[i], b[i], c[i]);
}
EXPORT hnn_high_u64(const uint64_t* a, const uint64_t* b, uint64_t* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<uint64_t>((static_cast<unsigned __int128>(a[i]) * b[i]) >> 64);
}
EXPORT hnn_high_s64(const int64_t* a, const int64_t* b, int64_t* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int64_t>((static_cast<__int128>(a[i]) * b[i]) >> 64);
}
EXPORT hnn_gather(const uint64_t* addresses, char* out, int64_t size, int64_t n) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * size, reinterpret_cast<const char*>(addresses[i]), size);
}
EXPORT hnn_scatter(const uint64_t* addresses, const char* values, int64_t size, int64_t n) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(reinterpret_cast<char*>(addresses[i]), values + i * size, size);
}
