// Transposing by AVX-512: words of 16 rows.
#pragma once
#include "../../vectors.hpp"

namespace KERNEL {

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

// The first channels of `count` rows of `k_all` numbers as (K, LANES); missing rows are zero. Returns how many
// channels that were.
//
// A pair of bfloat16 is transposed as one word. Rows are often a multiple of 4096 bytes apart, where the cache holds
// few of them: whole lines of it are used up at once.
static inline int64_t transpose_vectors(const char* x, int64_t dtype, int64_t count, int64_t k_all, Floats* out) {
  int64_t k = 0;
  for (; dtype == kBFloat16 && k + 2 * LANES <= k_all; k += 2 * LANES) {
    __m512i pairs[LANES];
    for (int m = 0; m < LANES; m++) {
      pairs[m] = m < count ? _mm512_loadu_si512(x + (m * k_all + k) * 2) : _mm512_setzero_si512();
    }
    transpose(pairs);
    for (int i = 0; i < LANES; i++) {
      out[k + 2 * i] = (Floats)((Words)pairs[i] << 16);
      out[k + 2 * i + 1] = (Floats)((Words)pairs[i] & 0xffff0000);
    }
  }
  for (; k + LANES <= k_all; k += LANES) {
    __m512i rows[LANES];
    for (int m = 0; m < LANES; m++) {
      rows[m] = m < count ? (__m512i)load_floats(x + m * k_all * bytes_of(dtype), k, dtype) : _mm512_setzero_si512();
    }
    transpose(rows);
    for (int i = 0; i < LANES; i++) out[k + i] = (Floats)rows[i];
  }
  return k;
}

// Four words of 16 rows as 4 vectors, a word of each row; `row(i)` are 16 bytes of the i-th. A quarter vector comes
// from every fourth row: loads are cheaper than shuffles.
template <class Row>
__attribute__((always_inline)) static inline void transpose_words(const Row& row, __m512i (&out)[4]) {
  __m512i rows[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {  // rows i, 4 + i, 8 + i, 12 + i
    const __m256i first = _mm256_inserti128_si256(_mm256_castsi128_si256(row(i)), row(4 + i), 1);
    const __m256i second = _mm256_inserti128_si256(_mm256_castsi128_si256(row(8 + i)), row(12 + i), 1);
    rows[i] = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
  }
  const __m512i low = _mm512_unpacklo_epi32(rows[0], rows[1]), high = _mm512_unpackhi_epi32(rows[0], rows[1]);
  const __m512i low2 = _mm512_unpacklo_epi32(rows[2], rows[3]), high2 = _mm512_unpackhi_epi32(rows[2], rows[3]);
  out[0] = _mm512_unpacklo_epi64(low, low2);
  out[1] = _mm512_unpackhi_epi64(low, low2);
  out[2] = _mm512_unpacklo_epi64(high, high2);
  out[3] = _mm512_unpackhi_epi64(high, high2);
}

// Those at `from`, where the first row's are.
__attribute__((always_inline)) static inline void load_transposed(const uint8_t* from, int64_t stride,
                                                                  __m512i (&out)[4]) {
  transpose_words(
      [&](int i) __attribute__((always_inline)) { return _mm_loadu_si128((const __m128i*)(from + i * stride)); }, out);
}

}  // namespace KERNEL
