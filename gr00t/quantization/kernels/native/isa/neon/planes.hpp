// From the planes of numerics/packing.py to int8, four rows at a time, by NEON: a vector holds a word of each row.
#pragma once
#include "vectors.hpp"

#include "../../weight.hpp"

namespace KERNEL {

// Half a byte of each integer of the p-th word of 4-bit ones that the narrower planes of WIDTH bits hold; what is in
// other bits does not count. `two` and `one` are the words of numerics/packing.py that hold it, of four rows.
template <int WIDTH>
static inline Words narrow_word(Words two, Words one, int p) {
  if (WIDTH == 1) return one >> (uint32_t)p;
  const Words word = two >> (uint32_t)(p % 2 * 2);
  if (WIDTH == 2) return word;
  const Words third = p < 2 ? one << (uint32_t)(2 - p) : one >> (uint32_t)(p - 2), pairs = Words{} + 0x33333333;
  return (word & pairs) | (third & ~pairs);
}

// The even and the odd integers, of two's complement, whose half bytes are in `lower`, and what is above those in
// `upper`; of fewer bits than 4 all is in `upper`.
template <int BITS>
static inline void unpack_halves(Words lower, Words upper, int8x16_t& even, int8x16_t& odd) {
  constexpr int UP = 8 - BITS;  // to the upper end of a byte, from where a shift drags the sign along
  const uint8x16_t halves = (uint8x16_t)lower, above = (uint8x16_t)upper;
  if constexpr (BITS <= 4) {
    const int8x16_t both = (int8x16_t)(BITS == 4 ? halves : above);
    even = vshrq_n_s8(vshlq_n_s8(both, UP), UP);
    odd = vshrq_n_s8(vshlq_n_s8(both, UP - 4), UP);
  } else {
    even = vshrq_n_s8(vshlq_n_s8((int8x16_t)vsliq_n_u8(halves, above, 4), UP), UP);
    odd = vshrq_n_s8(vshlq_n_s8((int8x16_t)vsriq_n_u8(above, halves, 4), UP), UP);
  }
}

// Where four rows of `count` integers have the planes of those from `first` on, a multiple of 128.
template <int BITS>
struct PlaneRows {
  const uint8_t *four, *two, *one;
  int64_t stride;

  PlaneRows(const uint8_t* rows, int64_t count, int64_t first)
      : four(rows + first / 2),
        two(rows + packed_bytes(count, BITS & 4) + first / 4),
        one(rows + packed_bytes(count, BITS & 6) + first / 8),
        stride(packed_bytes(count, BITS)) {}

  Words words(const uint8_t* plane) const {
    return Words{load<uint32_t>(plane), load<uint32_t>(plane + stride), load<uint32_t>(plane + 2 * stride),
                 load<uint32_t>(plane + 3 * stride)};
  }
  // What the narrower planes hold of the eight integers 8 p and after, p below 16.
  Words narrow(int64_t p) const {
    Words of_two = {}, of_one = {};
    if constexpr (BITS & 2) of_two = words(two + p / 2 * 4);
    if constexpr (BITS & 1) of_one = words(one + p / 4 * 4);
    return BITS % 4 == 0 ? Words{} : narrow_word<BITS % 4>(of_two, of_one, (int)(p % 4));
  }
};

}  // namespace KERNEL
