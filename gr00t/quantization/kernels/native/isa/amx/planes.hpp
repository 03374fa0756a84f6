// Planes of numerics/packing.py as one row's chunk wants them, by AVX-512 with VBMI.
#pragma once
#include "tiling.hpp"

namespace KERNEL {

// Half a byte of each integer of a chunk that the narrower planes of WIDTH bits hold, where int4 would lie; what is in
// other bits does not count. 16 words of 4 bytes: the plane of 2 bits has one for two of them, that of one bit for
// four.
template <int WIDTH>
static inline __m512i narrow_chunk(const uint8_t* two, const uint8_t* one) {
  __m512i word = _mm512_setzero_si512();
  if (WIDTH & 2) {
    const __m512i doubled = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m512i packed = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i*)two));
    word = _mm512_srlv_epi32(_mm512_permutexvar_epi32(doubled, packed), _mm512_set4_epi32(2, 0, 2, 0));
  }
  if (WIDTH & 1) {
    const __m512i fourfold = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    const __m512i packed = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)one));
    const __m512i words = _mm512_permutexvar_epi32(fourfold, packed);
    if (WIDTH == 1) return _mm512_srlv_epi32(words, _mm512_set4_epi32(3, 2, 1, 0));
    word = choose(_mm512_set1_epi8(0x33), word, _mm512_rolv_epi32(words, _mm512_set4_epi32(31, 0, 1, 2)));
  }
  return word;
}

// Each of eight bytes eight times.
static inline __m512i each_eight_times(const uint8_t (&bytes)[8]) {
  int64_t eight;
  memcpy(&eight, bytes, 8);
  const __m512i which = _mm512_set_epi64(0x0707070707070707, 0x0606060606060606, 0x0505050505050505, 0x0404040404040404,
                                         0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  return _mm512_permutexvar_epi8(which, _mm512_set1_epi64(eight));
}

// At which bit of the eight bytes of its plane the field of each of 32 integers begins; of the plane of 4 bits, of the
// eight bytes that hold it.
template <int WIDTH>
static inline __m256i field_starts() {
  alignas(32) uint8_t starts[32];
  for (int i = 0; i < 32; i++) {
    const int t = i / (32 / WIDTH), q = i / 8 % (4 / WIDTH), b = i / 2 % 4, h = i % 2;
    starts[i] = (uint8_t)((8 * (4 * t + b) + 4 * h + WIDTH * q) % 64);
  }
  return _mm256_load_si256((const __m256i*)starts);
}

// 32 block scales of one row from the `first` on, in their order; `first` a multiple of 32.
template <int BITS>
static inline __m256i unpack_32_scales(const Arguments& a, int64_t n, int64_t first) {
  const int64_t groups = a.groups();
  const PlaneRows<BITS> row(a.block_scale + n * packed_bytes(groups, BITS), groups, first);
  const auto bytes = [&](int width) {
    const int64_t left = smaller(row.left(width, 0), 4 * width);
    return _mm_maskz_loadu_epi8((__mmask16)((1 << left) - 1), row.plane(width, 0));
  };
  __m256i value = _mm256_setzero_si256();
  int shift = 0;
  if constexpr (BITS & 4) {
    const __m256i halves = _mm256_permute4x64_epi64(_mm256_castsi128_si256(bytes(4)), 0x50);
    value = _mm256_and_si256(_mm256_multishift_epi64_epi8(field_starts<4>(), halves), _mm256_set1_epi8(15));
    shift = 4;
  }
  if constexpr (BITS & 2) {
    const __m256i packed = _mm256_broadcastq_epi64(bytes(2));
    const __m256i field = _mm256_multishift_epi64_epi8(field_starts<2>(), packed);
    value = _mm256_or_si256(value, _mm256_slli_epi16(_mm256_and_si256(field, _mm256_set1_epi8(3)), shift));
    shift += 2;
  }
  if constexpr (BITS & 1) {
    const __m256i packed = _mm256_broadcastq_epi64(bytes(1));
    const __m256i field = _mm256_multishift_epi64_epi8(field_starts<1>(), packed);
    value = _mm256_or_si256(value, _mm256_slli_epi16(_mm256_and_si256(field, _mm256_set1_epi8(1)), shift));
  }
  const __m256i sign = _mm256_set1_epi8((char)(1 << (BITS - 1)));
  return _mm256_add_epi8(_mm256_xor_si256(value, sign), _mm256_set1_epi8(1));
}

// The block scales of one row's chunks from input k on, one for each 16 inputs; ones where there are none.
template <int BITS>
static inline void strip_scales(const Arguments& a, int64_t n, int64_t k, int64_t chunks,
                                uint8_t (&scales)[CHUNKS][8]) {
  if (!a.block_scale) {
    memset(scales, 1, sizeof scales);
    return;
  }
  const int64_t first = k / a.block_in / 32 * 32;
  alignas(32) uint8_t ordered[32];
  _mm256_store_si256((__m256i*)ordered, unpack_32_scales<BITS>(a, n, first));
  if (a.block_in == 16) {  // a strip is 32 blocks
    memcpy(scales, ordered, sizeof scales);
    return;
  }
  for (int64_t i = 0; i < 8 * chunks; i++) scales[i / 8][i % 8] = ordered[(k + 16 * i) / a.block_in - first];
}

}  // namespace KERNEL
