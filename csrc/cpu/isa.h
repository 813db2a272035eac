// The settings of an instruction set: HNN_ISA_AVX512, HNN_ISA_AVX2, or any processor. The including file has set the
// target, or was compiled for it, and has included <immintrin.h> before it set the target.
//
// HNN_VECTOR_BYTES; and, where the instruction set has them, HNN_STREAM(p, v), HNN_INTRINSIC(name), HNN_SIGNS(x),
// HNN_FMA, HNN_ROUND(x) and HNN_SCALE(x, n).
#pragma once

#if defined(HNN_ISA_AVX512)
#define HNN_VECTOR_BYTES 64
#define HNN_STREAM(p, v) _mm512_stream_si512((__m512i*)(p), (__m512i)(v))
#define HNN_INTRINSIC(name) _mm512_##name
#define HNN_SIGNS(x) _mm512_movepi32_mask((__m512i)(x))
#define HNN_FMA
#define HNN_ROUND(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define HNN_SCALE(x, n) _mm512_scalef_ps(x, n)
#elif defined(HNN_ISA_AVX2)
#define HNN_VECTOR_BYTES 32
#define HNN_STREAM(p, v) _mm256_stream_si256((__m256i*)(p), (__m256i)(v))
#define HNN_INTRINSIC(name) _mm256_##name
#define HNN_SIGNS(x) _mm256_movemask_ps((__m256)(x))
#define HNN_FMA
#else
#define HNN_VECTOR_BYTES 16  // which the compiler maps on what the target has
#ifdef __x86_64__
#define HNN_STREAM(p, v) _mm_stream_si128((__m128i*)(p), (__m128i)(v))
#define HNN_INTRINSIC(name) _mm_##name
#define HNN_SIGNS(x) _mm_movemask_ps((__m128)(x))
#endif
#endif
