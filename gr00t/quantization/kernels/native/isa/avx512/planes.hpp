// From the planes of numerics/packing.py to unsigned bytes, 16 rows at a time, by AVX-512.
//
// A vector holds a word of four bytes of each row. Of 32 integers the plane of 4 bits is four such words, whose low
// half bytes are the even integers of eight and whose high ones the odd; of the narrower planes fewer words hold, in
// the same half bytes, what belongs to them. So an integer of 3 bits becomes one of 4 by two instructions or three for
// a word, and is then unpacked as that is.
#pragma once
#include "../../panel.hpp"
#include "transpose.hpp"

namespace KERNEL {

// Bits of a where `mask` has ones, else of b.
static inline __m512i choose(__m512i mask, __m512i a, __m512i b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xca); }

// (x & MASK) ^ SIGN: an integer of BITS bits, two's complement, as a number from 0 on.
template <int BITS>
static inline __m512i unsigned_bits(__m512i x) {
  const __m512i mask = _mm512_set1_epi8((1 << BITS) - 1), sign = _mm512_set1_epi8((char)(1 << (BITS - 1)));
  return _mm512_ternarylogic_epi32(x, mask, sign, 0x6a);
}

// Words of 16 rows, of 32 integers each: those of the planes of 4, 2 and 1 bits that BITS has.
template <int BITS>
struct Words32 {
  __m512i four[4], two[2], one;
};

// Where rows of `count` integers have the planes of their integers from `first` on; `first` begins a chunk.
template <int BITS>
struct PlaneRows {
  const uint8_t* rows;
  int64_t count, first, stride;

  PlaneRows(const uint8_t* rows, int64_t count, int64_t first)
      : rows(rows), count(count), first(first), stride(packed_bytes(count, BITS)) {}

  // The first row's plane of `width` bits, from a chunk's 16 i-th bytes on.
  __attribute__((always_inline)) const uint8_t* plane(int width, int i) const {
    return rows + packed_bytes(count, BITS & ~(2 * width - 1)) + first * width / 8 + 16 * i;
  }
  // How many bytes it has from there on.
  int64_t left(int width, int i) const { return packed_bytes(count, width) - (first * width / 8 + 16 * i); }
};

// Half a byte of each integer of the p-th word of 4-bit ones that the narrower planes of WIDTH bits hold: its lowest
// bits; what is in the others does not count.
template <int WIDTH>
__attribute__((always_inline)) static inline __m512i narrow_word(const __m512i (&two)[2], __m512i one, int p) {
  __m512i word = two[p / 2];
  if (WIDTH & 2) {
    if (p % 2) word = _mm512_srli_epi32(word, 2);
    if (WIDTH & 1) {
      const __m512i third = p < 2 ? (__m512i)((Words)one << (2 - p)) : (__m512i)((Words)one >> (p - 2));
      word = choose(_mm512_set1_epi8(0x33), word, third);
    }
    return word;
  }
  return (__m512i)((Words)one >> p);
}

// The even and the odd integers, from 0 on, whose half bytes are in `lower`, and what is above those in `upper`; of
// fewer bits than 4 all is in `upper`.
template <int BITS>
__attribute__((always_inline)) static inline void unpack_halves(__m512i lower, __m512i upper, __m512i& even,
                                                                __m512i& odd) {
  if constexpr (BITS == 4) {
    even = lower;
    odd = _mm512_srli_epi32(lower, 4);
  } else if constexpr (BITS < 4) {
    even = upper;
    odd = _mm512_srli_epi32(upper, 4);
  } else {
    const __m512i half = _mm512_set1_epi8(15);
    even = choose(half, lower, _mm512_slli_epi32(upper, 4));
    odd = choose(half, _mm512_srli_epi32(lower, 4), upper);
  }
  even = unsigned_bits<BITS>(even);
  odd = unsigned_bits<BITS>(odd);
}

// Those of the p-th eight of 32.
template <int BITS>
__attribute__((always_inline)) static inline void unpack_eight(const Words32<BITS>& words, int p, __m512i& even,
                                                               __m512i& odd) {
  __m512i upper = words.four[p];
  if constexpr (BITS % 4 != 0) upper = narrow_word<BITS % 4>(words.two, words.one, p);
  unpack_halves<BITS>(words.four[p], upper, even, odd);
}

// What a chunk's words are loaded into, by `load(width, i, out)`: four words, of the 16 i-th bytes of its plane.
template <int BITS>
struct ChunkWords {
  __m512i four[BITS & 4 ? 4 : 1][4], two[BITS & 2 ? 2 : 1][4], one[1][4];

  template <class Load>
  __attribute__((always_inline)) void load_narrow(const Load& load) {
    if constexpr (BITS & 2) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) load(2, i, two[i]);
    }
    if constexpr (BITS & 1) load(1, 0, one[0]);
  }

  // Those of its c-th 32 integers, whose words of 4 bits are in four[from].
  __attribute__((always_inline)) Words32<BITS> quarter(int c, int from) const {
    Words32<BITS> words = {};
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      if (BITS & 4) words.four[i] = four[from][i];
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
      if (BITS & 2) words.two[i] = two[c / 2][c % 2 * 2 + i];
    }
    if (BITS & 1) words.one = one[0][c];
    return words;
  }
};

}  // namespace KERNEL
