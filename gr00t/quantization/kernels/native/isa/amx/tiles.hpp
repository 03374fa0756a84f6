// AMX's tiles: the instructions on them, and the state that they need.
//
// A tile is 16 rows of 64 bytes. `tile_dot` adds to 16 x 16 sums the products of 16 rows of 64 inputs and 16 rows (of
// four inputs each) of 16 columns.
#pragma once
#include "../../numbers.hpp"

namespace KERNEL {

constexpr int64_t TILE = 1024;  // bytes, always one after the other here
constexpr int64_t SIDE = 16;    // rows of a tile, and its columns where they are words

// Not as intrinsics: those of gcc 12 take no template arguments, and do not say which memory they read. Of a
// configuration they name the first 8 bytes, and a store before a load may be moved behind it.
template <int T>
static inline void tile_zero() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(T));
}

template <int T>
static inline void tile_load(const void* from) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"((int64_t)64), "i"(T) : "memory");
}

template <int T>
static inline void tile_store(void* to) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"((int64_t)64), "i"(T) : "memory");
}

// Sums C += A B, bytes with signs.
template <int C, int A, int B>
static inline void tile_dot() {
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfiguration) == 64, "as the processor reads it");

// All eight tiles whole, for this thread, as long as this lives. Whoever configured them before finds them configured
// so again: others look before they configure anew. Where nobody had they are released, so that the kernel has less
// to save when it switches threads.
class Configured {
 public:
  Configured() {
    const TileConfiguration own;
    __asm__ volatile("sttilecfg %0" : "=m"(before_));
    __asm__ volatile("ldtilecfg %0" : : "m"(own));
  }
  ~Configured() {
    if (before_.palette) {
      __asm__ volatile("ldtilecfg %0" : : "m"(before_));
    } else {
      __asm__ volatile("tilerelease");
    }
  }
  Configured(const Configured&) = delete;
  Configured& operator=(const Configured&) = delete;

 private:
  TileConfiguration before_;
};

}  // namespace KERNEL
