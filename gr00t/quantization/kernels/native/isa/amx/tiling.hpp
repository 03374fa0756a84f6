// How a run of rows and a weight lie as tiles, all of them TILE bytes:
//   W  (STEPS, 2 of outputs, 16 outputs, 64 inputs)                       32 outputs, a strip of inputs: 16 KB, which
//                                                                         stay in the first cache
//   X  (strips, pairs, STEPS, 2 of tokens, 16 words of 4 inputs, 16 tokens)    streams past W from the second cache
//   C  (pairs, 2 of outputs, 2 of tokens, 16 outputs, 16 tokens)          sums, between strips
// The weight is the first operand of a product: its rows are unpacked as they lie, without a transposition, and tokens
// are lanes from the prologue to the epilogue. Of a chunk of inputs the even ones are a step, the odd ones the next.
#pragma once
#include "../../panel.hpp"
#include "tiles.hpp"

namespace KERNEL {

constexpr int64_t CHUNKS = 4;                  // of a strip
constexpr int64_t STEPS = 2 * CHUNKS;          // tiles of 64 inputs
constexpr int64_t STRIP = CHUNKS * CHUNK;      // inputs
constexpr int64_t OUTPUTS = 32, TOKENS = 32;   // of a block of 2 x 2 tiles
constexpr int64_t W_BYTES = STEPS * 2 * TILE;  // of a strip
constexpr int64_t SUMS = OUTPUTS * TOKENS;     // of a block

// Every second one of 128 bytes, from the first or from the second on.
static inline __m512i every_second(__m512i first, __m512i last, int from) {
  alignas(64) int8_t index[64];
  for (int i = 0; i < 64; i++) index[i] = (int8_t)(2 * i + from);
  return _mm512_permutex2var_epi8(first, _mm512_load_si512(index), last);
}

struct Tiling {
  int64_t chunks, strips, groups, pairs;

  Tiling(int64_t in_features, int64_t rows)
      : chunks((in_features + CHUNK - 1) / CHUNK),
        strips((chunks + CHUNKS - 1) / CHUNKS),
        groups((rows + SIDE - 1) / SIDE),
        pairs((groups + 1) / 2) {}

  int64_t chunks_of(int64_t strip) const { return smaller(CHUNKS, chunks - strip * CHUNKS); }
  int64_t groups_of(int64_t pair) const { return smaller(2, groups - 2 * pair); }
  int64_t x_bytes() const { return strips * pairs * STEPS * 2 * TILE; }
  int64_t c_bytes() const { return pairs * SUMS * 4; }
  int64_t x_at(int64_t strip, int64_t pair) const { return (strip * pairs + pair) * STEPS * 2 * TILE; }
  // The even inputs of a chunk of 16 tokens; their odd ones are two tiles on.
  int64_t x_of(int64_t group, int64_t chunk) const {
    return x_at(chunk / CHUNKS, group / 2) + (chunk % CHUNKS * 4 + group % 2) * TILE;
  }
};

}  // namespace KERNEL
