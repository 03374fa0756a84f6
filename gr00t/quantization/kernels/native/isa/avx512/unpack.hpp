// From packed codes and block scales to bytes in the panel's order, by AVX-512.
#pragma once
#include "planes.hpp"

namespace KERNEL {

// vpdpbusd multiplies unsigned by signed: weights get an offset, which is taken back from the sums that begin at
// -OFFSET times the sum of a row's activations.
constexpr int OFFSET = 128;

// Whether `unpack_16_rows` knows the format: codes that are no bytes, without block scales or with those of blocks that
// are a part of a chunk or whole chunks.
static bool is_fast(const Arguments& a) {
  if (a.code_bits == 8) return false;
  return !a.block_scale || (a.block_in % 16 == 0 && (CHUNK % a.block_in == 0 || a.block_in % CHUNK == 0));
}

// Whether weights are multiplied by block scales as they are unpacked: all but those of int4 that have none.
static inline bool is_scaled(const Arguments& a) { return a.block_scale || a.code_bits != 4; }

// (x & 15) ^ 8: a nibble of two's complement as a number from 0 to 15.
static inline __m512i nibbles(__m512i x) { return unsigned_bits<4>(x); }

// Words of a row's block scales, a byte each: in their own order, and as a chunk wants them, two words for each.
static inline int64_t ordered_words(const Arguments& a) { return a.block_scale ? (a.groups() + 31) / 32 * 8 : 0; }
static inline bool is_in_order(const Arguments& a) { return a.block_scale && a.block_in == 16; }
static inline int64_t scale_words(const Arguments& a) {
  if (!is_fast(a) || !is_scaled(a)) return 0;
  return ordered_words(a) + (is_in_order(a) ? 0 : a.in_features / CHUNK * 2);
}

// Block scales of 16 rows to (words, PANEL), of every eight the even ones in a word, the odd ones in the next.
template <int BITS>
static void unpack_scales(const uint8_t* rows, int64_t groups, uint32_t* out) {
  for (int64_t first = 0; first < groups; first += CHUNK) {
    const PlaneRows<BITS> from(rows, groups, first);
    const auto load = [&](int width, int i, __m512i(&words)[4]) {
      const int64_t left = from.left(width, i);
      const __mmask16 there = (__mmask16)(left < 16 ? (1 << larger(left, 0)) - 1 : 0xffff);
      const uint8_t* plane = from.plane(width, i);
      transpose_words([&](int r) { return _mm_maskz_loadu_epi8(there, plane + r * from.stride); }, words);
    };
    ChunkWords<BITS> chunk;
    chunk.load_narrow(load);
    const int64_t quarters = smaller(4, (groups - first + 31) / 32);
    for (int c = 0; c < quarters; c++) {
      if constexpr (BITS & 4) load(4, c, chunk.four[0]);
      const Words32<BITS> words = chunk.quarter(c, 0);
#pragma GCC unroll 4
      for (int p = 0; p < 4; p++, out += 2 * PANEL) {
        __m512i pair[2];
        unpack_eight<BITS>(words, p, pair[0], pair[1]);
        const __m512i one = _mm512_set1_epi8(1);
        _mm512_storeu_si512(out, _mm512_add_epi8(pair[0], one));
        _mm512_storeu_si512(out + PANEL, _mm512_add_epi8(pair[1], one));
      }
    }
  }
}

// From scales in their order to two words for each chunk: a byte for each 16 inputs, of the even and of the odd 16.
static inline void spread_scales(const Arguments& a, const uint32_t* ordered, uint32_t* out) {
  for (int64_t chunk = 0; chunk < a.in_features / CHUNK; chunk++) {
    Words words[2] = {};
    for (int j = 0; j < 8; j++) {
      if (a.block_scale) {
        const int64_t block = (chunk * CHUNK + 16 * j) / a.block_in;
        const Words eight = load<Words>(ordered + (block / 8 * 2 + block % 2) * PANEL);
        words[j % 2] |= (eight >> (uint32_t)(block % 8 / 2 * 8) & 255) << (uint32_t)(j / 2 * 8);
      } else {
        words[j % 2] |= Words{} + (1u << (j / 2 * 8));
      }
    }
    for (int odd = 0; odd < 2; odd++) store(out + (2 * chunk + odd) * PANEL, words[odd]);
  }
}

// The block scales of a whole panel as (scale_words, PANEL) words, so that a vector holds those of 16 rows: first the
// two words of each chunk.
static inline void transpose_scales(const Arguments& a, int64_t n, uint32_t* out) {
  if (n + PANEL > a.out_features) return;
  uint32_t* ordered = out + (is_in_order(a) ? 0 : a.in_features / CHUNK * 2) * PANEL;
  for (int64_t r = 0; r < PANEL; r += 16) {
    if (a.block_scale) {
      const uint8_t* rows = a.block_scale + (n + r) * a.scale_bytes();
      switch (a.scale_bits) {
        case 1: unpack_scales<1>(rows, a.groups(), ordered + r); break;
        case 2: unpack_scales<2>(rows, a.groups(), ordered + r); break;
        case 3: unpack_scales<3>(rows, a.groups(), ordered + r); break;
        case 4: unpack_scales<4>(rows, a.groups(), ordered + r); break;
        case 5: unpack_scales<5>(rows, a.groups(), ordered + r); break;
        default: unpack_scales<6>(rows, a.groups(), ordered + r);
      }
    }
    if (!is_in_order(a)) spread_scales(a, ordered + r, out + r);
  }
}

// The block scales g of 16 rows and one chunk, a byte for each 16 inputs: of the even and of the odd of those.
template <int BITS>
struct ChunkScales {
  __m512i g[2], excess[2];  // excess: 2^(BITS - 1) g + 128, see `unpack_quarter`

  ChunkScales() = default;

  // `transposed`: from transpose_scales, where these rows' begin.
  ChunkScales(int64_t k, const uint32_t* transposed) {
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; odd++) {
      g[odd] = _mm512_loadu_si512(transposed + (k / CHUNK * 2 + odd) * PANEL);
      const __m512i half = _mm512_slli_epi32(g[odd], BITS - 1);  // of each byte at most 128
      excess[odd] = _mm512_xor_si512(half, _mm512_set1_epi8((char)OFFSET));
    }
  }
};

// 32 inputs of 16 rows, the c-th quarter of a chunk: `sink(i, w)` for the i-th word of each row in the chunk. Two codes
// u = c + 2^(BITS - 1) in a word times g stay below 256 each: one 16-bit multiplication makes two products g u, and
// g c + 128 = g u - (2^(BITS - 1) g + 128) in a byte.
template <bool SCALED, int BITS, class Sink>
__attribute__((always_inline)) static inline void unpack_quarter(const Words32<BITS>& packed, int c,
                                                                 const ChunkScales<BITS>& scales, const Sink& sink) {
  // Which byte of a word becomes all of it, and the first of two.
  const __m512i first = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
  const __m512i spread = _mm512_add_epi8(first, _mm512_set1_epi8((char)c));
  const __m512i spread_low = _mm512_or_si512(spread, _mm512_set1_epi16((short)0x8000));
#pragma GCC unroll 2
  for (int odd = 0; odd < 2; odd++) {  // 16 inputs, of one block
    __m512i factor = _mm512_set1_epi16(1), excess = _mm512_set1_epi8((char)((1 << (BITS - 1)) ^ OFFSET));
    if (SCALED) {
      factor = _mm512_shuffle_epi8(scales.g[odd], spread_low);
      excess = _mm512_shuffle_epi8(scales.excess[odd], spread);
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      __m512i u[2];
      unpack_eight<BITS>(packed, 2 * odd + half, u[0], u[1]);
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        const __m512i product = SCALED ? _mm512_mullo_epi16(u[i], factor) : u[i];
        sink(8 * c + 4 * odd + 2 * half + i, _mm512_sub_epi8(product, excess));
      }
    }
  }
}

// 16 rows of one chunk; unrolled where a row alone is multiplied, which gains 4 to 7 % on Zen 4 by loading whole lines
// first.
template <bool SCALED, bool IS_UNROLLED, int BITS, class Sink>
__attribute__((always_inline)) static inline void unpack_16_rows(const Arguments& a, int64_t n, int64_t k,
                                                                 const uint32_t* transposed, const Sink& sink) {
  const PlaneRows<BITS> rows(a.codes + n * packed_bytes(a.in_features, BITS), a.in_features, k);
  const ChunkScales<BITS> scales = SCALED ? ChunkScales<BITS>(k, transposed) : ChunkScales<BITS>();
  const auto load = [&](int width, int i, __m512i(&out)[4])
                        __attribute__((always_inline)) { load_transposed(rows.plane(width, i), rows.stride, out); };
  ChunkWords<BITS> chunk;
  chunk.load_narrow(load);
  if constexpr (IS_UNROLLED) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      if constexpr (BITS & 4) load(4, c, chunk.four[c]);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) unpack_quarter<SCALED>(chunk.quarter(c, BITS & 4 ? c : 0), c, scales, sink);
  } else {
#pragma GCC unroll 1
    for (int c = 0; c < 4; c++) {
      if constexpr (BITS & 4) load(4, c, chunk.four[0]);
      unpack_quarter<SCALED>(chunk.quarter(c, 0), c, scales, sink);
    }
  }
}

}  // namespace KERNEL
