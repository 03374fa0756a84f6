// out[m, n] = start[m] + sum_k q[m, k] w[n, k] for a few rows m and one panel of 64 rows n, exact int32 throughout;
// without a start, on top of what is there.
//
// Sums may wrap on the way: what counts is the result modulo 2^32, which the caller's bound on K makes the result.
#pragma once
#include "weight.hpp"

namespace KERNEL {

// What a tile asks the memory for while it computes: the codes of the next panel, `step` bytes at each word.
struct Ahead {
  const char* from;
  int64_t step;
};

#if defined(KERNEL_avx512_vnni)

constexpr int TILE_ROWS = 6;  // 6 x 4 sums, 4 weights and a broadcast fill the 32 registers

// As an instruction, not an intrinsic: gcc 12 moves the sums to memory and back around the intrinsic.
static inline void dot(__m512i& sum, __m512i weights, __m512i activations) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(activations));
}

template <int ROWS>
static void tile(const uint32_t* const* q, int64_t words, const uint32_t* panel, int32_t* out,
                 const int32_t* start, Ahead ahead) {
  __m512i sum[ROWS][4];
  const uint32_t* row[ROWS];
#pragma GCC unroll 6
  for (int m = 0; m < ROWS; m++) {
    row[m] = q[m];
#pragma GCC unroll 4
    for (int z = 0; z < 4; z++) {
      sum[m][z] = start ? _mm512_set1_epi32(start[m]) : _mm512_loadu_si512(out + m * PANEL + z * 16);
    }
  }
  for (int64_t w = 0; w < words; w++) {
    __m512i weights[4];
    _mm_prefetch(ahead.from, _MM_HINT_T0);
    ahead.from += ahead.step;
#pragma GCC unroll 4
    for (int z = 0; z < 4; z++) weights[z] = _mm512_loadu_si512(panel + z * PART + w * 16);
#pragma GCC unroll 6
    for (int m = 0; m < ROWS; m++) {
      const __m512i x = _mm512_set1_epi32((int)row[m][w * LANES]);
#pragma GCC unroll 4
      for (int z = 0; z < 4; z++) dot(sum[m][z], weights[z], x);
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < ROWS; m++) {
#pragma GCC unroll 4
    for (int z = 0; z < 4; z++) _mm512_storeu_si512(out + m * PANEL + z * 16, sum[m][z]);
  }
}

static void gemm(int rows, const uint32_t* const* q, int64_t words, const uint32_t* panel, int32_t* out,
                 const int32_t* start, Ahead ahead) {
  switch (rows) {
    case 1: return tile<1>(q, words, panel, out, start, ahead);
    case 2: return tile<2>(q, words, panel, out, start, ahead);
    case 3: return tile<3>(q, words, panel, out, start, ahead);
    case 4: return tile<4>(q, words, panel, out, start, ahead);
    case 5: return tile<5>(q, words, panel, out, start, ahead);
    default: return tile<6>(q, words, panel, out, start, ahead);
  }
}

// A single tile of rows uses each weight once: it is multiplied where it was unpacked, in a register.
constexpr int FEW_ROWS = 4;

template <bool SCALED, int ROWS>
static void multiply_few(const Arguments& a, int64_t n, const uint32_t* codes, const uint32_t* turned,
                         const int32_t* start, int32_t* acc) {
  const int64_t k_all = a.in_features;
  for (int64_t r = 0; r < PANEL; r += 16) {
    __m512i sum[ROWS][2];
    for (int m = 0; m < ROWS; m++) {
      sum[m][0] = _mm512_set1_epi32(start[m]);
      sum[m][1] = _mm512_setzero_si512();
    }
    const char* ahead = (const char*)a.codes + (n + r + 16) * (k_all / 2);
    for (int64_t k = 0; k < k_all; k += CHUNK) {
      const uint32_t* q = codes + k / 4 * LANES;
      unpack_16_rows<SCALED>(a, n + r, k, turned + r, [&](int i, __m512i w) __attribute__((always_inline)) {
        if (i % 2) _mm_prefetch(ahead + (i / 2) * 64, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int m = 0; m < ROWS; m++) dot(sum[m][i % 2], w, _mm512_set1_epi32((int)q[i * LANES + m]));
      });
      ahead += 16 * CHUNK / 2;
    }
    for (int m = 0; m < ROWS; m++) {
      _mm512_storeu_si512(acc + m * PANEL + r, _mm512_add_epi32(sum[m][0], sum[m][1]));
    }
  }
}

// Whether it did: a whole panel in the format that `unpack_16_rows` knows, and rows for one tile.
static bool multiply_few(const Arguments& a, int64_t n, int64_t rows, const uint32_t* codes, const uint32_t* turned,
                         const int32_t* start, int32_t* acc) {
  const bool is_whole = n + PANEL <= a.out_features && a.in_features % CHUNK == 0;
  if (rows > FEW_ROWS || !is_whole || !is_fast(a)) return false;
  switch (rows + (a.block_scale ? FEW_ROWS : 0)) {
    case 1: multiply_few<false, 1>(a, n, codes, turned, start, acc); break;
    case 2: multiply_few<false, 2>(a, n, codes, turned, start, acc); break;
    case 3: multiply_few<false, 3>(a, n, codes, turned, start, acc); break;
    case 4: multiply_few<false, 4>(a, n, codes, turned, start, acc); break;
    case 5: multiply_few<true, 1>(a, n, codes, turned, start, acc); break;
    case 6: multiply_few<true, 2>(a, n, codes, turned, start, acc); break;
    case 7: multiply_few<true, 3>(a, n, codes, turned, start, acc); break;
    default: multiply_few<true, 4>(a, n, codes, turned, start, acc); break;
  }
  return true;
}

static double peak(int64_t rounds) {
  const __m512i x = _mm512_set1_epi8(1);
  __m512i sum[24];
#pragma GCC unroll 24
  for (int i = 0; i < 24; i++) sum[i] = _mm512_setzero_si512();
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 24
    for (int i = 0; i < 24; i++) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(sum[i]) : "v"(x));
  }
  return 24.0 * 64 * 2 * (double)rounds;
}

#elif defined(KERNEL_avx2)

constexpr int TILE_ROWS = 2;

// Bytes widened to 16 bits before they are multiplied: pairs of products fit 32 bits, where vpmaddubsw, which
// takes bytes, would saturate at 16.
template <int ROWS>
static void tile(const uint32_t* const* q, int64_t words, const uint32_t* panel, int32_t* out) {
  for (int n = 0; n < PANEL; n += 16) {
    __m256i sum[ROWS][4] = {};
    for (int64_t w = 0; w < words; w++) {
      __m256i x[ROWS];
#pragma GCC unroll 2
      for (int m = 0; m < ROWS; m++) x[m] = _mm256_cvtepi8_epi16(_mm_set1_epi32((int)q[m][w * LANES]));
#pragma GCC unroll 4
      for (int z = 0; z < 4; z++) {
        const __m128i* four_rows = (const __m128i*)(panel + n / 16 * PART + w * 16 + 4 * z);
        const __m256i weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(four_rows));
#pragma GCC unroll 2
        for (int m = 0; m < ROWS; m++) {
          sum[m][z] = _mm256_add_epi32(sum[m][z], _mm256_madd_epi16(x[m], weights));
        }
      }
    }
    for (int m = 0; m < ROWS; m++) {  // two sums for each row of the weight
      for (int z = 0; z < 4; z += 2) {
        __m256i pairs = _mm256_hadd_epi32(sum[m][z], sum[m][z + 1]);
        __m256i* to = (__m256i*)(out + m * PANEL + n + 4 * z);
        pairs = _mm256_permute4x64_epi64(pairs, 0xd8);
        _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), pairs));
      }
    }
  }
}

static void gemm(int rows, const uint32_t* const* q, int64_t words, const uint32_t* panel, int32_t* out,
                 const int32_t* start, Ahead) {
  if (start) memset(out, 0, (size_t)(rows * PANEL) * 4);
  return rows == 1 ? tile<1>(q, words, panel, out) : tile<2>(q, words, panel, out);
}

static double peak(int64_t rounds) {
  __m256i sum[8] = {}, x = _mm256_set1_epi16(1), w = _mm256_set1_epi16(1);
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
      __asm__ volatile("" : "+x"(x));
      sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(x, w));
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) __asm__ volatile("" : : "x"(sum[i]));
  return 8.0 * 16 * 2 * (double)rounds;
}

#elif defined(KERNEL_neon_dotprod)

constexpr int TILE_ROWS = 4;

template <int ROWS>
static void tile(const uint32_t* const* q, int64_t words, const uint32_t* panel, int32_t* out) {
  for (int n = 0; n < PANEL; n += 16) {
    int32x4_t sum[ROWS][4];
    for (int m = 0; m < ROWS; m++) {
      for (int z = 0; z < 4; z++) sum[m][z] = vld1q_s32(out + m * PANEL + n + 4 * z);
    }
    for (int64_t w = 0; w < words; w++) {
      int8x16_t weights[4];
#pragma GCC unroll 4
      for (int z = 0; z < 4; z++) weights[z] = vreinterpretq_s8_u32(vld1q_u32(panel + n / 16 * PART + w * 16 + 4 * z));
#pragma GCC unroll 4
      for (int m = 0; m < ROWS; m++) {
        const int8x16_t x = vreinterpretq_s8_u32(vdupq_n_u32(q[m][w * LANES]));
#pragma GCC unroll 4
        for (int z = 0; z < 4; z++) sum[m][z] = vdotq_s32(sum[m][z], weights[z], x);
      }
    }
    for (int m = 0; m < ROWS; m++) {
      for (int z = 0; z < 4; z++) vst1q_s32(out + m * PANEL + n + 4 * z, sum[m][z]);
    }
  }
}

static void gemm(int rows, const uint32_t* const* q, int64_t words, const uint32_t* panel, int32_t* out,
                 const int32_t* start, Ahead) {
  if (start) memset(out, 0, (size_t)(rows * PANEL) * 4);
  switch (rows) {
    case 1: return tile<1>(q, words, panel, out);
    case 2: return tile<2>(q, words, panel, out);
    case 3: return tile<3>(q, words, panel, out);
    default: return tile<4>(q, words, panel, out);
  }
}

static double peak(int64_t rounds) {
  int32x4_t sum[16] = {};
  int8x16_t x = vdupq_n_s8(1), w = vdupq_n_s8(1);
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      __asm__ volatile("" : "+w"(x));
      sum[i] = vdotq_s32(sum[i], w, x);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) __asm__ volatile("" : : "w"(sum[i]));
  return 16.0 * 16 * 2 * (double)rounds;
}

#else

constexpr int TILE_ROWS = 4;

static void gemm(int rows, const uint32_t* const* q, int64_t words, const uint32_t* panel, int32_t* out,
                 const int32_t* start, Ahead) {
  if (start) memset(out, 0, (size_t)(rows * PANEL) * 4);
  for (int m = 0; m < rows; m++) {
    for (int64_t w = 0; w < words; w++) {
      const uint32_t x = q[m][w * LANES];
      for (int n = 0; n < PANEL; n++) {
        const uint32_t y = panel[n / 16 * PART + w * 16 + n % 16];
        int32_t sum = 0;
        for (int byte = 0; byte < 32; byte += 8) sum += (int8_t)(x >> byte) * (int8_t)(y >> byte);
        out[m * PANEL + n] = (int32_t)((uint32_t)out[m * PANEL + n] + (uint32_t)sum);
      }
    }
  }
}

static double peak(int64_t rounds) { return 0.0 * (double)rounds; }

#endif

#if !defined(KERNEL_avx512_vnni)
static bool multiply_few(const Arguments&, int64_t, int64_t, const uint32_t*, const uint32_t*, const int32_t*,
                         int32_t*) {
  return false;
}
#endif

}  // namespace KERNEL
