// Whether this process may use tiles, found out by trying.
//
// That the processor shows AMX is not enough: its state is large, so Linux (5.16 and later) gives it only to processes
// that ask, once, by arch_prctl, and the first tile instruction of another ends it by SIGILL. The permission holds for
// all threads, also for those made before; a forked child inherits it; a program that is executed has to ask again.
// Signal handlers work as before: frames grow, and for that the request is refused where a thread has an alternate
// signal stack that could not hold one. A sandbox may refuse it, and a hypervisor hide the instructions, or the state.
#pragma once
#include <cerrno>
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tiles.hpp"

namespace KERNEL {

struct TileFacts {
  bool has_tiles;     // cpuid: AMX-TILE and AMX-INT8
  bool has_vectors;   // AVX512-VNNI, VBMI and GFNI: the rest of the layer
  bool is_enabled;    // XCR0: the operating system saves tiles
  int request_error;  // errno of the request, or 0
  bool is_right;      // a product of two tiles
};

// Why tiles that the processor shows cannot be used; null where they can, and where it shows none.
static inline const char* tile_refusal(const TileFacts& facts) {
  if (!facts.has_tiles) return nullptr;
  if (!facts.has_vectors) return "AMX without AVX512-VNNI, VBMI and GFNI";
  if (!facts.is_enabled) return "AMX is not enabled by the operating system or hypervisor (XCR0)";
  if (facts.request_error == EPERM) return "a sandbox forbids to ask for AMX (arch_prctl: EPERM)";
  if (facts.request_error == ENOSPC) {
    return "an alternate signal stack is too small for AMX's registers (arch_prctl: ENOSPC)";
  }
  if (facts.request_error) return "this Linux has no AMX to give; 5.16 and later do (arch_prctl)";
  if (!facts.is_right) return "AMX computes wrong products here";
  return nullptr;
}

// Products of numbers that differ in every place, of both signs, by tiles and one by one.
static inline bool tiles_are_right() {
  alignas(64) int8_t one[SIDE][64], two[SIDE][64];
  alignas(64) int32_t sums[SIDE][SIDE];
  for (int i = 0; i < SIDE; i++) {
    for (int j = 0; j < 64; j++) {
      one[i][j] = (int8_t)(i * 11 + j * 37);
      two[i][j] = (int8_t)(i * 29 - j * 91);
    }
  }
  {
    const Configured configured;
    tile_zero<0>();
    tile_load<1>(one);
    tile_load<2>(two);
    tile_dot<0, 1, 2>();
    tile_store<0>(sums);
  }
  bool is_right = true;
  for (int m = 0; m < SIDE; m++) {
    for (int n = 0; n < SIDE; n++) {
      int32_t sum = 0;
      for (int k = 0; k < 64; k++) sum += one[m][k] * two[k / 4][4 * n + k % 4];
      is_right &= sum == sums[m][n];
    }
  }
  return is_right;
}

static inline int ask_for_tiles() {
  constexpr int REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) ? errno : 0;
}

// What is known of this machine and process; each fact only where those before it allow to look.
static inline TileFacts find_tile_facts(bool has_vnni) {
  TileFacts facts = {};
  unsigned a, b, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return facts;
  constexpr unsigned TILES = 1u << 24 | 1u << 25, VBMI = 1u << 1, GFNI = 1u << 8;
  facts.has_tiles = (d & TILES) == TILES;
  facts.has_vectors = has_vnni && (c & VBMI) && (c & GFNI);
  if (!facts.has_tiles || !facts.has_vectors) return facts;
  constexpr unsigned OSXSAVE = 1u << 27, TILE_STATES = 3u << 17;
  unsigned one[4];
  __cpuid(1, one[0], one[1], one[2], one[3]);
  if (!(one[2] & OSXSAVE)) return facts;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  facts.is_enabled = (low & TILE_STATES) == TILE_STATES;
  if (!facts.is_enabled) return facts;
  facts.request_error = ask_for_tiles();
  if (!facts.request_error) facts.is_right = tiles_are_right();
  return facts;
}

}  // namespace KERNEL
