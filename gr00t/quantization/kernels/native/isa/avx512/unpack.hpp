// From nibbles and nibble block scales to bytes in the panel's order, by AVX-512.
#pragma once
#include "../../panel.hpp"
#include "transpose.hpp"

namespace KERNEL {

// vpdpbusd multiplies unsigned by signed: weights get an offset, which is taken back from the sums that begin at
// -OFFSET times the sum of a row's activations.
constexpr int OFFSET = 128;

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

// The block scales g of 16 rows and one chunk, a byte for each 16 inputs: of the even and of the odd of those.
struct ChunkScales {
  __m512i g[2], excess[2];  // excess: 8 g + 128, see `unpack_16_rows`

  ChunkScales() = default;

  // `transposed`: from transpose_scales, where these rows' begin.
  ChunkScales(const Arguments& a, int64_t k, const uint32_t* transposed) {
    const int64_t block = k / a.block_in;
    __m512i eight = _mm512_loadu_si512(transposed + block / 8 * PANEL);
    if (a.block_in != 16) eight = repeated(eight, (int)(block % 8), a.block_in);
    const __m512i less = _mm512_set1_epi8((char)(a.scale_offset() - 8)), flip = _mm512_set1_epi8((char)OFFSET);
    g[0] = _mm512_add_epi8(nibbles(eight), less);
    g[1] = _mm512_add_epi8(nibbles(_mm512_srli_epi32(eight, 4)), less);
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; odd++) excess[odd] = _mm512_xor_si512(_mm512_slli_epi32(g[odd], 3), flip);
  }

 private:
  // Scales of larger blocks, from the `first` on, as often as they hold 16 inputs.
  static inline __m512i repeated(__m512i scales, int first, int64_t block) {
    const int halvings = block < CHUNK ? __builtin_ctzll((uint64_t)block / 16) : 3;
    __m512i eight = _mm512_setzero_si512();
    for (int j = 0; j < 8; j++) {
      const __m512i from_bit = _mm512_srl_epi32(scales, _mm_cvtsi32_si128(4 * (first + (j >> halvings))));
      const __m512i nibble = _mm512_and_si512(from_bit, _mm512_set1_epi32(15));
      eight = _mm512_or_si512(eight, _mm512_sll_epi32(nibble, _mm_cvtsi32_si128(4 * j)));
    }
    return eight;
  }
};

// 32 inputs of 16 rows, the c-th quarter of a chunk: `sink(i, w)` for the i-th word of each row
// in the chunk. Two nibbles u = c + 8 in a word times g stay below 256 each: one 16-bit multiplication makes two
// products g u, and g c + 128 = g u - (8 g + 128) in a byte.
template <bool SCALED, class Sink>
__attribute__((always_inline)) static inline void unpack_quarter(const __m512i (&packed)[4], int c,
                                                                 const ChunkScales& scales, const Sink& sink) {
  // Which byte of a word becomes all of it, and the first of two.
  const __m512i first = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
  const __m512i spread = _mm512_add_epi8(first, _mm512_set1_epi8((char)c));
  const __m512i spread_low = _mm512_or_si512(spread, _mm512_set1_epi16((short)0x8000));
#pragma GCC unroll 2
  for (int odd = 0; odd < 2; odd++) {  // 16 inputs, of one block
    __m512i factor = _mm512_set1_epi16(1), excess = _mm512_set1_epi8((char)(8 ^ OFFSET));
    if (SCALED) {
      factor = _mm512_shuffle_epi8(scales.g[odd], spread_low);
      excess = _mm512_shuffle_epi8(scales.excess[odd], spread);
    }
#pragma GCC unroll 4
    for (int part = 0; part < 4; part++) {
      const __m512i word = packed[2 * odd + part / 2];
      const __m512i u = nibbles(part % 2 ? _mm512_srli_epi32(word, 4) : word);
      sink(8 * c + 4 * odd + part, _mm512_sub_epi8(SCALED ? _mm512_mullo_epi16(u, factor) : u, excess));
    }
  }
}

// 16 rows of one chunk; unrolled where a row alone is multiplied, which gains 4 to 7 % on Zen 4 by loading whole lines
// first.
template <bool SCALED, bool IS_UNROLLED, class Sink>
__attribute__((always_inline)) static inline void unpack_16_rows(const Arguments& a, int64_t n, int64_t k,
                                                                 const uint32_t* transposed, const Sink& sink) {
  const int64_t stride = (a.in_features + 1) / 2;
  const uint8_t* from = a.codes + n * stride + k / 2;
  const ChunkScales scales = SCALED ? ChunkScales(a, k, transposed) : ChunkScales();
  if constexpr (IS_UNROLLED) {
    __m512i packed[4][4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) load_transposed(from + 16 * c, stride, packed[c]);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) unpack_quarter<SCALED>(packed[c], c, scales, sink);
  } else {
#pragma GCC unroll 1
    for (int c = 0; c < 4; c++) {
      __m512i packed[4];
      load_transposed(from + 16 * c, stride, packed);
      unpack_quarter<SCALED>(packed, c, scales, sink);
    }
  }
}

}  // namespace KERNEL
