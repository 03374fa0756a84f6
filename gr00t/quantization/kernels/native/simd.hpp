// A vector of LANES floats or int32 for each instruction set, and the few operations that C++ has no sign for.
//
// Sums are fused multiply-adds in a fixed order everywhere, so every instruction set gives the same bits; the
// compiler may not contract anything by itself (-ffp-contract=off).
#pragma once
#include <cstdint>
#include <cstring>

#if defined(KERNEL_avx512_vnni) || defined(KERNEL_avx2)
#include <immintrin.h>
#elif defined(KERNEL_neon_dotprod)
#include <arm_neon.h>
#endif

namespace KERNEL {

#if defined(KERNEL_avx512_vnni)
constexpr int LANES = 16;
#elif defined(KERNEL_avx2)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));

template <class Vector, class T>
static inline Vector load(const T* from) {
  Vector v;
  memcpy(&v, from, sizeof v);
  return v;
}

template <class Vector, class T>
static inline void store(T* to, Vector v) {
  memcpy(to, &v, sizeof v);
}

// Not 0 + value, which is another number for -0 and so an addition.
static inline Floats all(float value) { return value - Floats{}; }
static inline Ints all(int32_t value) { return Ints{} + value; }

// a * b + c, rounded once
static inline Floats fma(Floats a, Floats b, Floats c) {
#if defined(KERNEL_avx512_vnni)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(KERNEL_avx2)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(KERNEL_neon_dotprod)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  for (int lane = 0; lane < LANES; lane++) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
  return c;
#endif
}

// To the nearest integer, half to even; |v| < 2^31.
static inline Ints to_nearest(Floats v) {
#if defined(KERNEL_avx512_vnni)
  return (Ints)_mm512_cvtps_epi32((__m512)v);
#elif defined(KERNEL_avx2)
  return (Ints)_mm256_cvtps_epi32((__m256)v);
#elif defined(KERNEL_neon_dotprod)
  return (Ints)vcvtnq_s32_f32((float32x4_t)v);
#else
  Ints result;
  for (int lane = 0; lane < LANES; lane++) result[lane] = (int32_t)__builtin_rintf(v[lane]);
  return result;
#endif
}

static inline Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// float32 from 16 bits of float16: exact
static inline float half_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
  uint32_t bits;
  if (magnitude >= 0x7c00) {  // inf, nan
    bits = 0x7f800000 | (magnitude << 13);
  } else if (magnitude >= 0x400) {
    bits = (magnitude << 13) + (112u << 23);
  } else {  // subnormal: an integer number of 2^-24
    float value = (float)magnitude * 0x1p-24f;
    memcpy(&bits, &value, 4);
  }
  bits |= sign;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

// float16 from float32, half to even
static inline uint16_t float_to_half(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);   // nan
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);  // 65520 and more round to inf
  if (magnitude < 0x38800000) {                                   // subnormal: count 2^-24s
    float positive;
    memcpy(&positive, &magnitude, 4);
    return (uint16_t)(sign | (uint32_t)(int32_t)__builtin_rintf(positive * 0x1p24f));
  }
  magnitude += 0xfff + ((magnitude >> 13) & 1);
  return (uint16_t)(sign | ((magnitude - (112u << 23)) >> 13));
}

static inline Floats load_floats(const void* row, int64_t at, int64_t dtype) {
  if (dtype == kFloat32) return load<Floats>((const float*)row + at);
  if (dtype == kBFloat16) {
    Words wide = __builtin_convertvector(load<Halves>((const uint16_t*)row + at), Words);
    return (Floats)(wide << 16);
  }
#if defined(KERNEL_avx512_vnni)
  return (Floats)_mm512_cvtph_ps(load<__m256i>((const uint16_t*)row + at));
#else
  Floats result;
  for (int lane = 0; lane < LANES; lane++) result[lane] = half_to_float(((const uint16_t*)row)[at + lane]);
  return result;
#endif
}

static inline float load_float(const void* row, int64_t at, int64_t dtype) {
  if (dtype == kFloat32) return ((const float*)row)[at];
  uint16_t half = ((const uint16_t*)row)[at];
  if (dtype == kFloat16) return half_to_float(half);
  uint32_t bits = (uint32_t)half << 16;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

static inline void store_floats(void* row, int64_t at, int64_t dtype, Floats v) {
  if (dtype == kFloat32) {
    store((float*)row + at, v);
  } else if (dtype == kBFloat16) {  // half to even; a nan becomes torch's
    const Words bits = (Words)v;
    Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
#if defined(KERNEL_avx512_vnni)
    const __mmask16 is_nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    rounded = (Words)_mm512_mask_mov_epi32((__m512i)rounded, is_nan, _mm512_set1_epi32(0x7fc0));
#else
    const Words is_nan = (Words)((Ints)(bits & 0x7fffffff) > all(0x7f800000));
    rounded = (rounded & ~is_nan) | (is_nan & 0x7fc0);
#endif
    store((uint16_t*)row + at, __builtin_convertvector(rounded, Halves));
  } else {
#if defined(KERNEL_avx512_vnni)
    store((uint16_t*)row + at, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
    for (int lane = 0; lane < LANES; lane++) ((uint16_t*)row)[at + lane] = float_to_half(v[lane]);
#endif
  }
}

#if defined(KERNEL_avx512_vnni)
// 16 x 16 words in place: r[i] lane j becomes r[j] lane i.
static inline void transpose(__m512i r[16]) {
  __m512i t[16], u[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // u[i + c], quarter l: column 4 l + c of rows i to i + 3
    u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int c = 0; c < 4; c++) {
    __m512i even = _mm512_shuffle_i32x4(u[c], u[4 + c], 0x88), odd = _mm512_shuffle_i32x4(u[c], u[4 + c], 0xdd);
    __m512i even2 = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0x88);
    __m512i odd2 = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0xdd);
    r[c] = _mm512_shuffle_i32x4(even, even2, 0x88);
    r[4 + c] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
    r[8 + c] = _mm512_shuffle_i32x4(even, even2, 0xdd);
    r[12 + c] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
  }
}
#endif

}  // namespace KERNEL
