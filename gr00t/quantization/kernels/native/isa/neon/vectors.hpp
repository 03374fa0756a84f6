// What the NEON kernels share: vectors of 4, with ways of their own for float16 and for transposing.
#pragma once
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

namespace KERNEL {
constexpr int LANES = 4;
}

#include "../../panel.hpp"

namespace KERNEL {

static inline Floats fma(Floats a, Floats b, Floats c) {
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

static inline Ints to_nearest(Floats v) { return (Ints)vcvtnq_s32_f32((float32x4_t)v); }

static inline Floats load_halves(const uint16_t* from) {
  return (Floats)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
}

static inline void store_halves(uint16_t* to, Floats v) {
  vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v)));
}

static inline bool is_any(Ints condition) { return vmaxvq_u32((uint32x4_t)condition) != 0; }

static inline Words where_nan(Floats v, Words yes, Words no) {
  const uint32x4_t is_number = vceqq_f32((float32x4_t)v, (float32x4_t)v);
  return (Words)vbslq_u32(is_number, (uint32x4_t)no, (uint32x4_t)yes);
}

// 4 x 4 words in place: r[i] lane j becomes r[j] lane i.
static inline void transpose(uint32x4_t r[4]) {
  const uint32x4_t even = vzip1q_u32(r[0], r[2]), even2 = vzip2q_u32(r[0], r[2]);
  const uint32x4_t odd = vzip1q_u32(r[1], r[3]), odd2 = vzip2q_u32(r[1], r[3]);
  r[0] = vzip1q_u32(even, odd);
  r[1] = vzip2q_u32(even, odd);
  r[2] = vzip1q_u32(even2, odd2);
  r[3] = vzip2q_u32(even2, odd2);
}

// The first channels of `count` rows of `k_all` numbers as (K, LANES); missing rows are zero. Returns how many
// channels that were. A pair of bfloat16 is transposed as one word.
static inline int64_t transpose_vectors(const char* x, int64_t dtype, int64_t count, int64_t k_all, Floats* out) {
  int64_t k = 0;
  for (; dtype == kBFloat16 && k + 2 * LANES <= k_all; k += 2 * LANES) {
    uint32x4_t pairs[LANES] = {};
    for (int64_t m = 0; m < count; m++) pairs[m] = load<uint32x4_t>(x + (m * k_all + k) * 2);
    transpose(pairs);
    for (int i = 0; i < LANES; i++) {
      out[k + 2 * i] = (Floats)((Words)pairs[i] << 16);
      out[k + 2 * i + 1] = (Floats)((Words)pairs[i] & 0xffff0000);
    }
  }
  for (; k + LANES <= k_all; k += LANES) {
    uint32x4_t rows[LANES] = {};
    for (int64_t m = 0; m < count; m++) {
      rows[m] = (uint32x4_t)load_floats(x + m * k_all * bytes_of(dtype), k, dtype);
    }
    transpose(rows);
    for (int i = 0; i < LANES; i++) out[k + i] = (Floats)rows[i];
  }
  return k;
}

constexpr int COLUMNS = 16;

// Products of signed bytes: weights need no offset.
constexpr int OFFSET = 0;

}  // namespace KERNEL
