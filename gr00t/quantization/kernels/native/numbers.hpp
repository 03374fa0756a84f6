// Numbers one by one: sizes, and float16 and bfloat16 in and out, exact and half to even.
#pragma once
#include <cstdint>
#include <cstring>

#include "operands.hpp"

namespace KERNEL {

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

static inline float half_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
  uint32_t bits;
  if (magnitude >= 0x7c00) {  // inf, nan
    bits = 0x7f800000 | (magnitude << 13);
  } else if (magnitude >= 0x400) {
    bits = (magnitude << 13) + (112u << 23);
  } else {  // subnormal: an integer number of 2^-24
    float value = (float)magnitude * 0x1p-24f;
    memcpy(&bits, &value, 4);
  }
  bits |= sign;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

static inline uint16_t float_to_half(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);   // nan
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);  // 65520 and more round to inf
  if (magnitude < 0x38800000) {                                   // subnormal: count 2^-24s
    float positive;
    memcpy(&positive, &magnitude, 4);
    return (uint16_t)(sign | (uint32_t)(int32_t)__builtin_rintf(positive * 0x1p24f));
  }
  magnitude += 0xfff + ((magnitude >> 13) & 1);
  return (uint16_t)(sign | ((magnitude - (112u << 23)) >> 13));
}

static inline float load_float(const void* row, int64_t at, int64_t dtype) {
  if (dtype == kFloat32) return ((const float*)row)[at];
  uint16_t half = ((const uint16_t*)row)[at];
  if (dtype == kFloat16) return half_to_float(half);
  uint32_t bits = (uint32_t)half << 16;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

}  // namespace KERNEL
