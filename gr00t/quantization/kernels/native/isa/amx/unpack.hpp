// From packed codes to `g * c` in tiles: a strip of 32 outputs at a time.
//
// Nibbles, with nibble scales or none, whole bytes, and codes in planes have a way of their own where a chunk is whole;
// what is left of any format goes through weight.hpp, one row after the other.
#pragma once
#include "../../weight.hpp"
#include "planes.hpp"

namespace KERNEL {

// (x >> 4) ^ 8 of every byte: a product with a matrix of bits, one instruction.
static inline __m512i upper_nibbles(__m512i x) {
  return _mm512_gf2p8affine_epi64_epi8(x, _mm512_set1_epi64(0x1020408000000000), 8);
}

// Rows of one strip, and where they go: 64 bytes of each tile.
struct StripRows {
  const uint8_t* codes;
  int64_t stride;
  int8_t* out;
  int64_t chunks;

  // `body(output, chunk, codes, even, odd)` for each whole chunk of each row.
  template <class Body>
  __attribute__((always_inline)) void for_chunks(int64_t bytes, const Body& body) const {
    for (int64_t o = 0; o < OUTPUTS; o++) {
      const uint8_t* from = codes + o * stride;
      int8_t* to = out + o / SIDE * TILE + o % SIDE * 64;
#pragma GCC unroll 4
      for (int64_t c = 0; c < chunks; c++, from += bytes, to += 4 * TILE) body(o, c, from, to, to + 2 * TILE);
    }
  }
};

// As in `unpack_16_rows` two products fit one 16-bit multiplication: g c = g (c + 8) - 8 g.
__attribute__((noinline)) static void unpack_scaled(const Arguments& a, int64_t n, int64_t k, const StripRows& rows) {
  const int halvings = __builtin_ctzll((uint64_t)a.block_in / 16);  // 16 inputs are the 2^-halvings part of a block
  const int64_t scale_stride = (a.groups() + 1) / 2, first = k / CHUNK, within = (1 << halvings) - 1;
  const uint8_t* scales = a.block_scale + n * scale_stride;
  const __m512i less = _mm512_set1_epi8((char)(a.scale_offset() - 8)), low_bytes = _mm512_set1_epi16(255);
  // At which bit of eight nibbles the scale of 16 inputs begins, in each byte of the word that holds them.
  const __m512i block = _mm512_srli_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), (unsigned)halvings);
  const __m512i low_byte = _mm512_set4_epi64(0x0808080808080808, 0, 0x0808080808080808, 0);
  const __m512i start = _mm512_shuffle_epi8(_mm512_slli_epi64(block, 2), low_byte);
  rows.for_chunks(
      64, [&](int64_t o, int64_t c, const uint8_t* from, int8_t* even, int8_t* odd) __attribute__((always_inline)) {
        int32_t eight;
        memcpy(&eight, scales + o * scale_stride + ((first + c) >> halvings) * 4, 4);
        __m512i bit = start;
        if (halvings) bit = _mm512_add_epi8(bit, _mm512_set1_epi8((char)(((first + c) & within) << (5 - halvings))));
        const __m512i g = _mm512_add_epi8(nibbles(_mm512_multishift_epi64_epi8(bit, _mm512_set1_epi32(eight))), less);
        const __m512i factor = _mm512_and_si512(g, low_bytes), excess = _mm512_slli_epi16(g, 3);
        const __m512i packed = _mm512_loadu_si512(from);
        const __m512i low = _mm512_mullo_epi16(nibbles(packed), factor);
        const __m512i high = _mm512_mullo_epi16(upper_nibbles(packed), factor);
        _mm512_store_si512(even, _mm512_sub_epi8(low, excess));
        _mm512_store_si512(odd, _mm512_sub_epi8(high, excess));
      });
}

__attribute__((noinline)) static void unpack_nibbles(const StripRows& rows) {
  const __m512i excess = _mm512_set1_epi8(8);
  rows.for_chunks(64,
                  [&](int64_t, int64_t, const uint8_t* from, int8_t* even, int8_t* odd) __attribute__((always_inline)) {
                    const __m512i packed = _mm512_loadu_si512(from);
                    _mm512_store_si512(even, _mm512_sub_epi8(nibbles(packed), excess));
                    _mm512_store_si512(odd, _mm512_sub_epi8(upper_nibbles(packed), excess));
                  });
}

__attribute__((noinline)) static void unpack_bytes(const StripRows& rows) {
  rows.for_chunks(CHUNK,
                  [&](int64_t, int64_t, const uint8_t* from, int8_t* even, int8_t* odd) __attribute__((always_inline)) {
                    const __m512i first = _mm512_loadu_si512(from), last = _mm512_loadu_si512(from + 64);
                    _mm512_store_si512(even, every_second(first, last, 0));
                    _mm512_store_si512(odd, every_second(first, last, 1));
                  });
}

// `count` outputs of one chunk, any format; zeros for the others. What weight.hpp adds for vpdpbusd is taken off.
static void unpack_chunk_rows(const Arguments& a, int64_t n, int64_t count, int64_t k, int8_t* out) {
  const __m512i offset = _mm512_set1_epi8((char)OFFSET);
  for (int64_t o = 0; o < OUTPUTS; o++) {
    alignas(64) uint8_t halves[2][CHUNK / 2];
    memset(halves, OFFSET, sizeof halves);
    if (o < count) unpack_row(a, n + o, k, halves[0], halves[1]);
    for (int odd = 0; odd < 2; odd++) {
      int8_t* to = out + (2 * odd + o / SIDE) * TILE + o % SIDE * 64;
      _mm512_store_si512(to, _mm512_sub_epi8(_mm512_load_si512(halves[odd]), offset));
    }
  }
}

// Codes of other than 4 or 8 bits, any block scales.
template <int BITS>
__attribute__((noinline)) static void unpack_planes(const Arguments& a, int64_t n, int64_t k, int64_t chunks,
                                                    int8_t* out) {
  const PlaneRows<BITS> rows(a.codes + n * a.row_bytes(), a.in_features, k);
  const __m512i low_bytes = _mm512_set1_epi16(255);
  for (int64_t o = 0; o < OUTPUTS; o++) {
    alignas(64) uint8_t scales[CHUNKS][8];
    strip_scales<8 - BITS>(a, n + o, k, chunks, scales);
    int8_t* to = out + o / SIDE * TILE + o % SIDE * 64;
    for (int64_t c = 0; c < chunks; c++, to += 4 * TILE) {
      const auto plane = [&](int width) { return rows.plane(width, (int)c * width) + o * rows.stride; };
      __m512i lower = _mm512_setzero_si512();
      if constexpr (BITS & 4) lower = _mm512_loadu_si512(plane(4));
      const __m512i upper = narrow_chunk<BITS % 4>(BITS & 2 ? plane(2) : nullptr, BITS & 1 ? plane(1) : nullptr);
      __m512i even, odd;
      unpack_halves<BITS>(lower, upper, even, odd);
      const __m512i g = each_eight_times(scales[c]);
      const __m512i factor = _mm512_and_si512(g, low_bytes), excess = _mm512_slli_epi16(g, BITS - 1);
      _mm512_store_si512(to, _mm512_sub_epi8(_mm512_mullo_epi16(even, factor), excess));
      _mm512_store_si512(to + 2 * TILE, _mm512_sub_epi8(_mm512_mullo_epi16(odd, factor), excess));
    }
  }
}

enum class Format { SCALED_NIBBLES, NIBBLES, BYTES, PLANES, OTHER };

static Format format_of(const Arguments& a) {
  const bool is_known = a.block_in == 16 || a.block_in == 32 || a.block_in == 64 || a.block_in == 128;
  if (a.code_bits != 4 && a.code_bits != 8) return is_known || !a.block_scale ? Format::PLANES : Format::OTHER;
  if (!a.block_scale) return a.code_bits == 4 ? Format::NIBBLES : Format::BYTES;
  // Four bytes of scales are read at a time: those of one chunk, or of a few chunks that share them.
  const bool are_whole = a.block_in == 16 || a.in_features % (8 * a.block_in) == 0;
  return a.code_bits == 4 && is_known && are_whole ? Format::SCALED_NIBBLES : Format::OTHER;
}

// Of the bits that codes in planes may have.
static void unpack_any_planes(const Arguments& a, int64_t n, int64_t k, int64_t chunks, int8_t* out) {
  switch (a.code_bits) {
    case 2: return unpack_planes<2>(a, n, k, chunks, out);
    case 3: return unpack_planes<3>(a, n, k, chunks, out);
    case 5: return unpack_planes<5>(a, n, k, chunks, out);
    case 6: return unpack_planes<6>(a, n, k, chunks, out);
    default: return unpack_planes<7>(a, n, k, chunks, out);
  }
}

// Outputs from n on, `chunks` chunks of inputs from k on, to `out`, W.
static void unpack_strip(const Arguments& a, int64_t n, int64_t k, int64_t chunks, int8_t* out) {
  const Format format = format_of(a);
  const int64_t count = smaller(OUTPUTS, a.out_features - n), whole = smaller(chunks, (a.in_features - k) / CHUNK);
  const int64_t stride = a.row_bytes();
  const StripRows rows = {a.codes + n * stride + k * a.code_bits / 8, stride, out, whole};
  const bool is_quick = format != Format::OTHER && count == OUTPUTS;
  if (is_quick) {
    switch (format) {
      case Format::SCALED_NIBBLES: unpack_scaled(a, n, k, rows); break;
      case Format::NIBBLES: unpack_nibbles(rows); break;
      case Format::PLANES: unpack_any_planes(a, n, k, whole, out); break;
      default: unpack_bytes(rows); break;
    }
  }
  for (int64_t c = is_quick ? whole : 0; c < chunks; c++) {
    unpack_chunk_rows(a, n, count, k + c * CHUNK, out + c * 4 * TILE);
  }
}

}  // namespace KERNEL
