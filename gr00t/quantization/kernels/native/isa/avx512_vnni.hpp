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
}

#include "../panel.hpp"

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

constexpr int COLUMNS = 16;

// vpdpbusd multiplies unsigned by signed: weights get an offset, which is taken back from the sums that begin at
// -OFFSET times the sum of a row's activations.
constexpr int OFFSET = 128;

// Whether `unpack_16_rows` knows the format: nibbles, without block scales or with nibble scales of blocks that are
// a part of a chunk or whole chunks.
static bool is_fast(const Arguments& a) {
  if (a.code_bits() != 4) return false;
  if (!a.block_scale) return true;
  return a.scale_bits == 4 && a.block_in % 16 == 0 && (CHUNK % a.block_in == 0 || a.block_in % CHUNK == 0);
}

// (x & 15) ^ 8: a nibble of two's complement as a number from 0 to 15.
static inline __m512i nibbles(__m512i x) {
  return _mm512_ternarylogic_epi32(x, _mm512_set1_epi8(15), _mm512_set1_epi8(8), 0x6a);
}

// How many 4-byte words of nibble scales a row has.
static inline int64_t scale_words(const Arguments& a) { return a.block_scale && is_fast(a) ? (a.groups() + 7) / 8 : 0; }

// The panel's nibble scales as (scale_words, PANEL) words, so that a vector holds those of 16 rows.
static inline void transpose_scales(const Arguments& a, int64_t n, uint32_t* out) {
  const int64_t bytes = (a.groups() + 1) / 2;
  const int64_t rows = smaller(PANEL, a.out_features - n);
  for (int64_t r = 0; r < rows; r += 16) {
    for (int64_t byte = 0; byte < bytes; byte += 64) {
      const __mmask64 there = ~0ULL >> (64 - smaller(64, bytes - byte));
      __m512i words[16];
      for (int64_t i = 0; i < 16; i++) {
        const uint8_t* row = a.block_scale + (n + smaller(r + i, rows - 1)) * bytes + byte;
        words[i] = _mm512_maskz_loadu_epi8(there, row);
      }
      transpose(words);
      const int64_t count = smaller(16, (bytes - byte + 3) / 4);
      for (int64_t i = 0; i < count; i++) _mm512_storeu_si512(out + (byte / 4 + i) * PANEL + r, words[i]);
    }
  }
}

// 16 rows of 64 bytes as 16 vectors of a word of each row. A quarter vector comes from every fourth row: loads
// are cheaper than shuffles.
__attribute__((always_inline)) static inline void load_transposed(const uint8_t* from, int64_t stride, __m512i* out) {
#pragma GCC unroll 4
  for (int c = 0; c < 4; c++) {  // four words of each row
    __m512i rows[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {  // rows i, 4 + i, 8 + i, 12 + i
      const uint8_t* row = from + i * stride + 16 * c;
      const auto quarter = [&](int l) { return _mm_loadu_si128((const __m128i*)(row + 4 * l * stride)); };
      const __m256i first = _mm256_inserti128_si256(_mm256_castsi128_si256(quarter(0)), quarter(1), 1);
      const __m256i second = _mm256_inserti128_si256(_mm256_castsi128_si256(quarter(2)), quarter(3), 1);
      rows[i] = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    }
    const __m512i low = _mm512_unpacklo_epi32(rows[0], rows[1]), high = _mm512_unpackhi_epi32(rows[0], rows[1]);
    const __m512i low2 = _mm512_unpacklo_epi32(rows[2], rows[3]), high2 = _mm512_unpackhi_epi32(rows[2], rows[3]);
    out[4 * c] = _mm512_unpacklo_epi64(low, low2);
    out[4 * c + 1] = _mm512_unpackhi_epi64(low, low2);
    out[4 * c + 2] = _mm512_unpacklo_epi64(high, high2);
    out[4 * c + 3] = _mm512_unpackhi_epi64(high, high2);
  }
}

// 16 rows of one chunk: `sink(i, w)` for the i-th word of each, 0 to 31. Two nibbles u = c + 8 in a word times g
// stay below 256 each: one 16-bit multiplication makes two products g u, and g c + 128 = g u - (8 g + 128) in a
// byte. `transposed`: from transpose_scales, where these rows' begin.
template <bool SCALED, class Sink>
__attribute__((always_inline)) static inline void unpack_16_rows(const Arguments& a, int64_t n, int64_t k,
                                                                 const uint32_t* transposed, const Sink& sink) {
  const int64_t stride = (a.in_features + 1) / 2;
  __m512i packed[16];
  load_transposed(a.codes + n * stride + k / 2, stride, packed);
  const __m512i ones = _mm512_set1_epi8(1), less = _mm512_set1_epi8((char)(a.scale_offset - 8));
  const __m512i spread = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
  __m512i scales = ones;
  int nibble = 0, halvings = 3;  // 16 inputs are the 2^-halvings part of a chunk's 128, or of a larger block
  if (SCALED) {
    const int64_t block = k / a.block_in;
    scales = _mm512_loadu_si512(transposed + block / 8 * PANEL);
    nibble = (int)(block % 8);
    halvings = a.block_in < CHUNK ? __builtin_ctzll((uint64_t)a.block_in / 16) : 3;
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; j++) {  // 16 inputs each, of one block
    __m512i g = ones;            // in every byte
    if (SCALED) {
      const __m128i bits = _mm_cvtsi32_si128(4 * (nibble + (j >> halvings)));
      g = _mm512_add_epi8(nibbles(_mm512_shuffle_epi8(_mm512_srl_epi32(scales, bits), spread)), less);
    }
    const __m512i factor = _mm512_and_si512(g, _mm512_set1_epi16(255));
    const __m512i excess = _mm512_xor_si512(_mm512_slli_epi32(g, 3), _mm512_set1_epi8((char)OFFSET));
#pragma GCC unroll 4
    for (int part = 0; part < 4; part++) {
      const __m512i word = packed[2 * j + part / 2];
      const __m512i u = nibbles(part % 2 ? _mm512_srli_epi32(word, 4) : word);
      sink(4 * j + part, _mm512_sub_epi8(_mm512_mullo_epi16(u, factor), excess));
    }
  }
}

// Whole chunks of a whole panel. A function of its own: where both kinds share one, gcc 12 lets them share their
// stores, and has no registers left for what waits for them.
template <bool SCALED>
__attribute__((noinline)) static void unpack_panel(const Arguments& a, int64_t n, int64_t k0, int64_t k1,
                                                   const uint32_t* transposed, uint32_t* out) {
  for (int r = 0; r < PANEL; r += 16) {
    uint32_t* to = out + r / 16 * PART;
    for (int64_t k = k0; k < k1; k += CHUNK, to += CHUNK / 4 * 16) {
      unpack_16_rows<SCALED>(a, n + r, k, transposed + r, [&](int i, __m512i w) __attribute__((always_inline)) {
        _mm512_storeu_si512(to + i * 16, w);
      });
    }
  }
}

// From `k0` on as many inputs of the panel whose first row is n as are whole chunks of whole rows. Returns where they
// end.
static inline int64_t unpack_chunks(const Arguments& a, int64_t n, int64_t k0, int64_t k1, const uint32_t* transposed,
                                    uint32_t* out) {
  if (!is_fast(a) || n + PANEL > a.out_features) return k0;
  const int64_t end = k0 + (smaller(k1, a.in_features) - k0) / CHUNK * CHUNK;
  if (a.block_scale) {
    unpack_panel<true>(a, n, k0, end, transposed, out);
  } else {
    unpack_panel<false>(a, n, k0, end, transposed, out);
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

// A single tile of rows uses each weight once: it is multiplied where it was unpacked, in a register.
constexpr int FEW_ROWS = 4;

template <bool SCALED, int ROWS>
static void multiply_few(const Arguments& a, int64_t n, const uint32_t* codes, const uint32_t* transposed,
                         const int32_t* start, int32_t* acc) {
  const int64_t k_all = a.in_features;
  for (int64_t r = 0; r < PANEL; r += 16) {
    __m512i sum[ROWS][2];
    for (int m = 0; m < ROWS; m++) {
      sum[m][0] = _mm512_set1_epi32(start[m]);
      sum[m][1] = _mm512_setzero_si512();
    }
    const char* ahead = (const char*)a.codes.data + (n + r + 16) * (k_all / 2);
    for (int64_t k = 0; k < k_all; k += CHUNK) {
      const uint32_t* q = codes + k / 4 * LANES;
      unpack_16_rows<SCALED>(a, n + r, k, transposed + r, [&](int i, __m512i w) __attribute__((always_inline)) {
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
static inline bool multiply_few(const Arguments& a, int64_t n, int64_t rows, const uint32_t* codes,
                                const uint32_t* transposed, const int32_t* start, int32_t* acc) {
  const bool is_whole = n + PANEL <= a.out_features && a.in_features % CHUNK == 0;
  if (rows > FEW_ROWS || !is_whole || !is_fast(a)) return false;
  switch (rows + (a.block_scale ? FEW_ROWS : 0)) {
    case 1: multiply_few<false, 1>(a, n, codes, transposed, start, acc); break;
    case 2: multiply_few<false, 2>(a, n, codes, transposed, start, acc); break;
    case 3: multiply_few<false, 3>(a, n, codes, transposed, start, acc); break;
    case 4: multiply_few<false, 4>(a, n, codes, transposed, start, acc); break;
    case 5: multiply_few<true, 1>(a, n, codes, transposed, start, acc); break;
    case 6: multiply_few<true, 2>(a, n, codes, transposed, start, acc); break;
    case 7: multiply_few<true, 3>(a, n, codes, transposed, start, acc); break;
    default: multiply_few<true, 4>(a, n, codes, transposed, start, acc); break;
  }
  return true;
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
