// From packed codes to `g * c + OFFSET` in bytes: a panel of 64 output rows at a time, reused for every input row.
//
// A panel lies as the dot-product instructions want it: (4, DEPTH / 4, 16 rows) words of four inputs, in the order
// of front.hpp's `quantize_words`.
#pragma once
#include "simd.hpp"

namespace KERNEL {

constexpr int PANEL = 64;
constexpr int CHUNK = 128;                // inputs that are unpacked at a time: 64 bytes of nibbles
constexpr int64_t DEPTH = 16 * CHUNK;     // inputs of a panel at a time: it should stay in the second cache
constexpr int64_t PART = DEPTH / 4 * 16;  // words of 16 rows of a panel

// vpdpbusd multiplies unsigned by signed: weights get an offset, which is taken back from the sums that begin at
// -OFFSET times the sum of a row's activations.
#if defined(KERNEL_avx512_vnni)
constexpr int OFFSET = 128;
#else
constexpr int OFFSET = 0;
#endif

static inline int block_scale_of(const Arguments& a, int64_t n, int64_t block, int64_t groups) {
  if (!a.block_scale) return 1;
  if (a.scale_bits == 8) return a.block_scale[n * groups + block];
  int byte = a.block_scale[n * ((groups + 1) / 2) + block / 2];
  int nibble = block % 2 ? byte >> 4 : byte & 15;
  return (nibble ^ 8) - 8 + (int)a.scale_offset;
}

// Inputs [k, k + CHUNK) of row n, the even and the odd ones apart; zeros and their offset after K.
static void unpack_row(const Arguments& a, int64_t n, int64_t k, uint8_t* even, uint8_t* odd) {
  const int64_t k_all = a.in_features, count = smaller(CHUNK, k_all - k);
  int8_t code[CHUNK] = {};
  if (a.code_bits == 4) {
    const uint8_t* packed = a.codes + n * ((k_all + 1) / 2) + k / 2;
    for (int64_t i = 0; i < (count + 1) / 2; i++) {
      code[2 * i] = (int8_t)((packed[i] & 15) ^ 8) - 8;
      code[2 * i + 1] = (int8_t)((packed[i] >> 4) ^ 8) - 8;
    }
    if (count % 2) code[count] = 0;
  } else {
    memcpy(code, a.codes + n * k_all + k, count);
  }
  if (a.block_scale) {
    const int64_t groups = (k_all + a.block_in - 1) / a.block_in;
    for (int64_t i = 0; i < count;) {
      const int64_t block = (k + i) / a.block_in;
      const int64_t end = smaller(count, (block + 1) * a.block_in - k);
      const int scale = block_scale_of(a, n, block, groups);
      for (; i < end; i++) code[i] = (int8_t)(code[i] * scale);
    }
  }
  for (int i = 0; i < CHUNK / 2; i++) {
    even[i] = (uint8_t)(code[2 * i] + OFFSET);
    odd[i] = (uint8_t)(code[2 * i + 1] + OFFSET);
  }
}

// One chunk of `rows` output rows, any format: `words` of them from `out` on.
static void unpack_chunk(const Arguments& a, int64_t n, int64_t rows, int64_t k, int64_t words, uint32_t* out) {
  for (int64_t r = 0; r < PANEL; r++) {
    uint8_t halves[2][CHUNK / 2] = {};
    if (r < rows) unpack_row(a, n + r, k, halves[0], halves[1]);
    for (int64_t w = 0; w < words; w++) memcpy(out + r / 16 * PART + w * 16 + r % 16, halves[w % 2] + w / 2 * 4, 4);
  }
}

#if defined(KERNEL_avx512_vnni)

// Whether `unpack_16_rows` knows the format: nibbles, without block scales or with nibble scales of blocks that are
// a part of a chunk or whole chunks.
static bool is_fast(const Arguments& a) {
  if (a.code_bits != 4) return false;
  if (!a.block_scale) return true;
  return a.scale_bits == 4 && a.block_in % 16 == 0 && (CHUNK % a.block_in == 0 || a.block_in % CHUNK == 0);
}

// (x & 15) ^ 8: a nibble of two's complement as a number from 0 to 15.
static inline __m512i nibbles(__m512i x) {
  return _mm512_ternarylogic_epi32(x, _mm512_set1_epi8(15), _mm512_set1_epi8(8), 0x6a);
}

// How many 4-byte words of nibble scales a row has.
static int64_t scale_words(const Arguments& a) {
  return a.block_scale && is_fast(a) ? ((a.in_features + a.block_in - 1) / a.block_in + 7) / 8 : 0;
}

// The panel's nibble scales as (scale_words, PANEL) words, so that a vector holds those of 16 rows.
static void turn_scales(const Arguments& a, int64_t n, uint32_t* out) {
  const int64_t bytes = ((a.in_features + a.block_in - 1) / a.block_in + 1) / 2;
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
__attribute__((always_inline)) static inline void load_turned(const uint8_t* from, int64_t stride, __m512i* out) {
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
// byte. `turned`: from turn_scales, where these rows' begin.
template <bool SCALED, class Sink>
__attribute__((always_inline)) static inline void unpack_16_rows(const Arguments& a, int64_t n, int64_t k,
                                                                 const uint32_t* turned, const Sink& sink) {
  const int64_t stride = (a.in_features + 1) / 2;
  __m512i packed[16];
  load_turned(a.codes + n * stride + k / 2, stride, packed);
  const __m512i ones = _mm512_set1_epi8(1), less = _mm512_set1_epi8((char)(a.scale_offset - 8));
  const __m512i spread = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
  __m512i scales = ones;
  int nibble = 0, halvings = 3;  // 16 inputs are the 2^-halvings part of a chunk's 128, or of a larger block
  if (SCALED) {
    const int64_t block = k / a.block_in;
    scales = _mm512_loadu_si512(turned + block / 8 * PANEL);
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
__attribute__((noinline)) static void unpack_chunks(const Arguments& a, int64_t n, int64_t k0, int64_t k1,
                                                    const uint32_t* turned, uint32_t* out) {
  for (int r = 0; r < PANEL; r += 16) {
    uint32_t* to = out + r / 16 * PART;
    for (int64_t k = k0; k < k1; k += CHUNK, to += CHUNK / 4 * 16) {
      unpack_16_rows<SCALED>(a, n + r, k, turned + r, [&](int i, __m512i w) __attribute__((always_inline)) {
        _mm512_storeu_si512(to + i * 16, w);
      });
    }
  }
}

#else

static int64_t scale_words(const Arguments&) { return 0; }
static void turn_scales(const Arguments&, int64_t, uint32_t*) {}

#endif

// Inputs [k0, k1) of the panel whose first row is n; k0 a multiple of CHUNK. `turned` is from turn_scales.
static void unpack(const Arguments& a, int64_t n, int64_t k0, int64_t k1, const uint32_t* turned, uint32_t* out) {
  const int64_t rows = smaller(PANEL, a.out_features - n);
  int64_t k = k0;
#if defined(KERNEL_avx512_vnni)
  if (is_fast(a) && rows == PANEL) {
    k += (smaller(k1, a.in_features) - k0) / CHUNK * CHUNK;
    if (a.block_scale) {
      unpack_chunks<true>(a, n, k0, k, turned, out);
    } else {
      unpack_chunks<false>(a, n, k0, k, turned, out);
    }
  }
#endif
  for (; k < k1; k += CHUNK) {
    unpack_chunk(a, n, rows, k, smaller(CHUNK, round_up(k1 - k, 8)) / 4, out + (k - k0) / 4 * 16);
  }
}

}  // namespace KERNEL
