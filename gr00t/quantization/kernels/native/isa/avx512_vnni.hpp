// AVX-512 with VNNI: vectors of 16, products of bytes, and ways of its own for transposing and unpacking.
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in gcc 12's own header, its bug 105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace KERNEL {
constexpr int LANES = 16;
constexpr int COLUMNS = 16;
}  // namespace KERNEL

#include "avx512/restore.hpp"
#include "avx512/unpack.hpp"

namespace KERNEL {

namespace vnni {
static inline bool is_supported() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
}  // namespace vnni
using namespace vnni;

static inline Floats fma(Floats a, Floats b, Floats c) {
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

static inline Ints to_nearest(Floats v) { return (Ints)_mm512_cvtps_epi32((__m512)v); }

static inline Floats load_halves(const uint16_t* from) { return (Floats)_mm512_cvtph_ps(load<__m256i>(from)); }

static inline void store_halves(uint16_t* to, Floats v) {
  store(to, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline bool is_any(Ints condition) { return _mm512_test_epi32_mask((__m512i)condition, (__m512i)condition); }

static inline Words where_nan(Floats v, Words yes, Words no) {
  const __mmask16 is_nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
  return (Words)_mm512_mask_mov_epi32((__m512i)no, is_nan, (__m512i)yes);
}

// Whole chunks of a whole panel. A function of its own: where both kinds share one, gcc 12 lets them share their
// stores, and has no registers left for what waits for them.
template <bool SCALED, int BITS>
__attribute__((noinline)) static void unpack_panel(const Arguments& a, int64_t n, int64_t k0, int64_t k1,
                                                   const uint32_t* transposed, uint32_t* out) {
  for (int r = 0; r < PANEL; r += 16) {
    uint32_t* to = out + r / 16 * PART;
    for (int64_t k = k0; k < k1; k += CHUNK, to += CHUNK / 4 * 16) {
      unpack_16_rows<SCALED, true, BITS>(a, n + r, k, transposed + r,
                                         [&](int i, __m512i w)
                                             __attribute__((always_inline)) { _mm512_storeu_si512(to + i * 16, w); });
    }
  }
}

// From `k0` on as many inputs of the panel whose first row is n as are whole chunks of whole rows. Returns where they
// end.
static inline int64_t unpack_chunks(const Arguments& a, int64_t n, int64_t k0, int64_t k1, const uint32_t* transposed,
                                    uint32_t* out) {
  if (!is_fast(a) || n + PANEL > a.out_features) return k0;
  const int64_t end = k0 + (smaller(k1, a.in_features) - k0) / CHUNK * CHUNK;
  switch (a.code_bits) {
    case 2: unpack_panel<true, 2>(a, n, k0, end, transposed, out); break;
    case 3: unpack_panel<true, 3>(a, n, k0, end, transposed, out); break;
    case 5: unpack_panel<true, 5>(a, n, k0, end, transposed, out); break;
    case 6: unpack_panel<true, 6>(a, n, k0, end, transposed, out); break;
    case 7: unpack_panel<true, 7>(a, n, k0, end, transposed, out); break;
    default:
      if (is_scaled(a)) {
        unpack_panel<true, 4>(a, n, k0, end, transposed, out);
      } else {
        unpack_panel<false, 4>(a, n, k0, end, transposed, out);
      }
  }
  return end;
}

constexpr int TILE_ROWS = 6;  // 6 x 4 sums, 4 weights and a broadcast fill the 32 registers

// As an instruction, not an intrinsic: gcc 12 moves the sums to memory and back around the intrinsic.
static inline void dot(__m512i& sum, __m512i weights, __m512i activations) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(activations));
}

template <int ROWS>
static void multiply_rows(const Tile& tile, Ahead ahead) {
  const int64_t words = tile.words;
  const uint32_t* panel = tile.panel;
  int32_t* out = tile.out;
  __m512i sum[ROWS][4];
  const uint32_t* row[ROWS];
#pragma GCC unroll 6
  for (int m = 0; m < ROWS; m++) {
    row[m] = tile.q[m];
#pragma GCC unroll 4
    for (int z = 0; z < 4; z++) {
      sum[m][z] = tile.start ? _mm512_set1_epi32(tile.start[m]) : _mm512_loadu_si512(out + m * PANEL + z * 16);
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

static void multiply_tile(int rows, const Tile& tile, Ahead ahead) {
  switch (rows) {
    case 1: return multiply_rows<1>(tile, ahead);
    case 2: return multiply_rows<2>(tile, ahead);
    case 3: return multiply_rows<3>(tile, ahead);
    case 4: return multiply_rows<4>(tile, ahead);
    case 5: return multiply_rows<5>(tile, ahead);
    default: return multiply_rows<6>(tile, ahead);
  }
}

// The first rows are multiplied where the weight is unpacked, a word of 16 outputs at a time, in a register: meanwhile
// units of the processor that do not multiply unpack the next. On Zen 4 64 weights so take 2 cycles more than their
// products, instead of 4.85: the unpacking's own multiplication and store are what is left (7 rows: 2.7; 12: 2.1).
constexpr int FIRST_ROWS = 9;

static inline int first_rows(const Arguments& a, int64_t n, int64_t rows) {
  if (n + PANEL > a.out_features || a.in_features % CHUNK != 0 || !is_fast(a)) return 0;
  const bool is_usual =
      a.code_bits == 3 || a.code_bits == 4 || a.code_bits == 6;  // others' would be as much code again
  return is_usual ? (int)smaller(rows, FIRST_ROWS) : 0;
}

// An activation of each lane the same, from memory.
static inline void dot(__m512i& sum, __m512i weights, const uint32_t* activations) {
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(weights), "m"(*activations));
}

template <bool SCALED, int BITS, int ROWS>
static void multiply_first(const Arguments& a, const Strip& strip) {
  constexpr bool IS_ALL = ROWS < FIRST_ROWS;  // there are no other rows
  constexpr int CHAINS = ROWS <= 4 ? 2 : 1;   // an instruction waits for the sum of the one before it
  for (int64_t r = 0; r < PANEL; r += 16) {
    int32_t* acc = strip.acc + r;
    __m512i sum[ROWS][CHAINS];
#pragma GCC unroll 9
    for (int m = 0; m < ROWS; m++) {
      sum[m][CHAINS - 1] = _mm512_setzero_si512();
      sum[m][0] = strip.k0 ? _mm512_loadu_si512(acc + m * PANEL) : _mm512_set1_epi32(strip.start[m]);
    }
    const char* ahead = (const char*)a.codes.data + (strip.n + r + 16) * a.row_bytes() + strip.k0 * BITS / 8 * 16;
    const uint32_t* q = strip.q;
    uint32_t* panel = strip.panel + r / 16 * PART;
    for (int64_t k = strip.k0; k < strip.k1; k += CHUNK) {
      const auto use = [&](int i, __m512i w) __attribute__((always_inline)) {
        if (!IS_ALL) {
          _mm512_storeu_si512(panel + i * 16, w);
        } else if ((i % 8 + 1) * BITS / 8 > i % 8 * BITS / 8) {  // a line for every 64 bytes
          _mm_prefetch(ahead + (i / 8 * BITS + i % 8 * BITS / 8) * 64, _MM_HINT_T0);
        }
#pragma GCC unroll 9
        for (int m = 0; m < ROWS; m++) dot(sum[m][i % CHAINS], w, q + i * LANES + m);
      };
      unpack_16_rows<SCALED, ROWS == 1, BITS>(a, strip.n + r, k, strip.scales + r, use);
      ahead += 16 * CHUNK * BITS / 8;
      panel += CHUNK / 4 * 16;
      q += CHUNK / 4 * LANES;
    }
#pragma GCC unroll 9
    for (int m = 0; m < ROWS; m++) {
      if (CHAINS == 2) sum[m][0] = _mm512_add_epi32(sum[m][0], sum[m][CHAINS - 1]);
      _mm512_storeu_si512(acc + m * PANEL, sum[m][0]);
    }
  }
}

template <bool SCALED, int BITS, int MOST = FIRST_ROWS>
static void multiply_first_of(int64_t rows, const Arguments& a, const Strip& strip) {
  if constexpr (MOST > 1) {
    if (rows < MOST) return multiply_first_of<SCALED, BITS, MOST - 1>(rows, a, strip);
  }
  multiply_first<SCALED, BITS, MOST>(a, strip);
}

static void multiply_first(int64_t rows, const Arguments& a, const Strip& strip) {
  if (a.code_bits == 3) return multiply_first_of<true, 3>(rows, a, strip);
  if (a.code_bits == 6) return multiply_first_of<true, 6>(rows, a, strip);
  if (is_scaled(a)) return multiply_first_of<true, 4>(rows, a, strip);
  multiply_first_of<false, 4>(rows, a, strip);
}

namespace vnni {
static inline double peak(int64_t rounds) {
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
}  // namespace vnni

}  // namespace KERNEL
