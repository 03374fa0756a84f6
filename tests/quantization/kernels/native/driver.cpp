// Runs every part of every kernel on a few dozen layers of odd shapes, and prints the hash of all results by kernel:
// they have to be the same. Every tensor is memory of its own of just its size, for the address sanitizer to watch.
//
//   driver           all kernels that this processor can run, AMX's by emulated_tiles.cpp where it has none
//   driver wrong     the same, by an emulator that multiplies wrongly
//   driver overrun   the last output one number too short: what the sanitizer has to catch
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <vector>

#include "operands.hpp"

extern "C" {
const char* duquant_kernel(int i);
int duquant_is_supported(int i);
int duquant_rotate(int i, const LinearOperands*, const LinearCall*);
int duquant_prologue(int i, const LinearOperands*, const LinearCall*);
int duquant_accumulate(int i, const LinearOperands*, const LinearCall*);
int duquant_epilogue(int i, const LinearOperands*, const LinearCall*);
int duquant_linear(int i, const LinearOperands*, const LinearCall*);
int duquant_search(int i, const SearchCall*);
int duquant_feedback(int i, const FeedbackCall*);
int begin_emulated_tiles(int wrong);
}

namespace {

uint64_t state = 1;

uint32_t draw(uint32_t below) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33) % below;
}

template <class T>
T one_of(std::initializer_list<T> options) {
  return options.begin()[draw((uint32_t)options.size())];
}

// Between -4 and 4 in steps of 2^-12, so that float16 holds it nearly; a few outliers.
float number() { return ((float)draw(1 << 15) / (1 << 12) - 4) * (draw(40) ? 1 : 30); }

// Memory of just `bytes`.
class Memory {
 public:
  explicit Memory(int64_t bytes) : bytes(bytes), data_((char*)malloc((size_t)bytes)) {
    memset(data_.get(), 0, (size_t)bytes);
  }
  char* data() const { return data_.get(); }
  int64_t bytes;

 private:
  struct Free {
    void operator()(char* p) const { free(p); }
  };
  std::unique_ptr<char, Free> data_;
};

std::vector<Memory> kept;

template <class T>
T* tensor(int64_t numbers, int64_t bytes = sizeof(T)) {
  kept.emplace_back(numbers * bytes);
  return (T*)kept.back().data();
}

void store(void* to, int64_t at, int64_t dtype, float value) {
  if (dtype == kFloat32) {
    memcpy((float*)to + at, &value, 4);
    return;
  }
  uint32_t bits;
  memcpy(&bits, &value, 4);
  uint16_t half = (uint16_t)(bits >> 16);  // bfloat16, cut off
  if (dtype == kFloat16) {
    half = (uint16_t)((bits >> 16 & 0x8000) | (value == 0 ? 0 : ((bits & 0x7fffffff) - (112u << 23)) >> 13 & 0x7fff));
    if (!std::isfinite(value)) half = (uint16_t)((bits >> 16 & 0x8000) | (std::isnan(value) ? 0x7e00 : 0x7c00));
  }
  memcpy((uint16_t*)to + at, &half, 2);
}

void* floats(int64_t numbers, int64_t dtype) {
  void* made = tensor<char>(numbers, bytes_of(dtype));
  for (int64_t i = 0; i < numbers; i++) store(made, i, dtype, number());
  return made;
}

float* positive(int64_t numbers) {
  float* made = tensor<float>(numbers);
  for (int64_t i = 0; i < numbers; i++) made[i] = (float)(1 + draw(64)) / 16;
  return made;
}

// Any matrices, or Hadamard's of 16: what they are is not the kernels' affair.
Array<const float> rotation(int64_t width, int64_t block, bool is_documented = false) {
  const bool is_hadamard = is_documented || (block == 16 && draw(2));
  const int64_t blocks = is_hadamard || (width % block == 0 && draw(2)) ? 1 : (width + block - 1) / block;
  float* made = tensor<float>(blocks * block * block);
  for (int64_t i = 0; i < blocks * block * block; i++) {
    const bool is_minus = __builtin_popcount((unsigned)(i / block & i % block)) % 2;
    made[i] = is_hadamard ? (is_minus ? -0.25f : 0.25f) : number() / 16;
  }
  return {made, blocks, kFloat32};
}

// (rows, count) integers of `bits` bits, any: every one is a code, and a block scale less what it is stored less. Bit
// by bit, as numerics/packing.py says where each lies.
uint8_t* integers(int64_t rows, int64_t count, int64_t bits) {
  const int64_t bytes = packed_bytes(count, bits);
  uint8_t* made = tensor<uint8_t>(rows * bytes);
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t i = 0; i < count; i++) {
      const int value = (int)draw(1u << bits);
      uint8_t* plane = made + row * bytes;
      if (bits == 8) plane[i] = (uint8_t)value;
      for (int width = 4, shift = 0; bits < 8 && width; width /= 2) {
        if (!(bits & width)) continue;
        const int64_t unit = 32 / width, within = i % unit;  // unit: integers of 4 bytes
        const int64_t byte = i / unit * 4 + within % 8 / 2, bit = within % 2 * 4 + within / 8 * width;
        plane[byte] = (uint8_t)(plane[byte] | (value >> shift & ((1 << width) - 1)) << bit);
        plane += packed_bytes(count, width);
        shift += width;
      }
    }
  }
  return made;
}

struct Layer {
  LinearOperands operands = {};
  int64_t in_features, out_features;
};

// `is_documented`: with block scales, Hadamard's matrix behind, and whole vectors of everything.
Layer make_layer(bool is_documented) {
  Layer layer;
  int64_t k = one_of<int64_t>({1, 7, 32, 96, 128, 130, 257, 384, 640, 2176});
  int64_t n = one_of<int64_t>({1, 5, 33, 64, 128, 150});
  LinearOperands& o = layer.operands;
  o.block_in = one_of<int64_t>({4, 16, 16, 24, 32, 64, 128, 256});
  o.block_out = one_of<int64_t>({4, 16, 16, 24, 32, 64, 128});
  if (is_documented) {
    k = one_of<int64_t>({128, 640, 1024});
    n = one_of<int64_t>({64, 96, 288});
    o.block_in = one_of<int64_t>({16, 16, 32, 64, 128});
    o.block_out = 16;
  }
  layer.in_features = k;
  layer.out_features = n;
  o.activation_bits = one_of<int64_t>({2, 4, 8, 8});
  if (draw(2)) o.smoothing = positive(k);
  if (!draw(3)) o.rotation_first = rotation(k, o.block_in);
  if (draw(2)) {
    int32_t* perm = tensor<int32_t>(k);
    for (int64_t i = 0; i < k; i++) perm[i] = (int32_t)i;
    for (int64_t i = k - 1; i > 0; i--) {
      const int64_t j = draw((uint32_t)i + 1);
      const int32_t swapped = perm[i];
      perm[i] = perm[j];
      perm[j] = swapped;
    }
    o.perm = perm;
  }
  if (draw(4)) o.rotation_in = rotation(k, o.block_in);
  if (!draw(3)) o.act_scale = positive(k);
  const int64_t bits =
      is_documented ? one_of<int64_t>({2, 3, 3, 4, 4, 4, 5, 6, 6, 7}) : one_of<int64_t>({2, 3, 3, 4, 4, 5, 6, 6, 7, 8});
  o.code_bits = bits;
  o.codes = {integers(n, k, bits), n, bits >= 4 && bits <= 7 ? kUInt8 : kInt8};
  if (bits < 8 && (is_documented || draw(4))) {
    o.scale_bits = 8 - bits;
    o.block_scale = integers(n, (k + o.block_in - 1) / o.block_in, 8 - bits);
  }
  o.row_scale = positive(n);
  if (is_documented || draw(3)) o.rotation_out = rotation(n, o.block_out, is_documented);
  if (draw(2)) {
    const int64_t dtype = one_of<int64_t>({kFloat32, kBFloat16, kFloat16});
    o.bias = {floats(n, dtype), n, dtype};
  }
  return layer;
}

uint64_t hash;

void add_bytes(const void* data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i++) hash = (hash ^ ((const uint8_t*)data)[i]) * 1099511628211u;
}

// A nan is a nan, whatever its bits.
void add_floats(const void* data, int64_t count, int64_t dtype) {
  for (int64_t i = 0; i < count; i++) {
    uint32_t bits = 0;
    memcpy(&bits, (const char*)data + i * bytes_of(dtype), (size_t)bytes_of(dtype));
    const uint32_t magnitude = bits & (dtype == kFloat32 ? 0x7fffffff : 0x7fff);
    const uint32_t infinity = dtype == kFloat32 ? 0x7f800000 : dtype == kBFloat16 ? 0x7f80 : 0x7c00;
    if (magnitude > infinity) bits = infinity + 1;
    add_bytes(&bits, 4);
  }
}

void check(int status) {
  if (!status) return;
  fprintf(stderr, "a kernel returned %d\n", status);
  exit(1);
}

void run_layer(int kernel, bool is_short, bool is_documented) {
  const Layer layer = make_layer(is_documented);
  const int64_t k = layer.in_features, n = layer.out_features;
  const int64_t m = one_of<int64_t>({1, 2, 3, 4, 5, 6, 7, 17, 33, 49});
  const int64_t dtype = is_documented ? (int64_t)kBFloat16 : one_of<int64_t>({kFloat32, kBFloat16, kFloat16});
  LinearCall call = {};
  call.rows = m;
  call.in_features = k;
  call.out_features = n;
  call.threads = 2;
  call.smallest_scale = 0x1p-102;
  void* x = floats(m * k, dtype);
  call.x = x;
  call.x_dtype = call.y_dtype = dtype;
  if (m > 1 && draw(2)) {
    store(x, m * k - 1, dtype, one_of<float>({INFINITY, -INFINITY, NAN, 0.0f}));
  }
  call.h = tensor<float>(m * k);
  call.q = tensor<int8_t>(m * k);
  call.s = tensor<float>(m);
  call.acc = tensor<int32_t>(m * n);
  call.y = tensor<char>(m * n - is_short, bytes_of(dtype));
  const LinearOperands* operands = &layer.operands;
  check(duquant_rotate(kernel, operands, &call));
  check(duquant_prologue(kernel, operands, &call));
  check(duquant_accumulate(kernel, operands, &call));
  check(duquant_epilogue(kernel, operands, &call));
  if (!is_short) add_floats(call.y, m * n, dtype);
  check(duquant_linear(kernel, operands, &call));
  add_floats(call.h, m * k, kFloat32);
  add_bytes(call.q, m * k);
  add_floats(call.s, m, kFloat32);
  add_bytes(call.acc, m * n * 4);
  add_floats(call.y, m * n, dtype);
}

void run_search(int kernel) {
  const int64_t n = one_of<int64_t>({1, 5, 17, 33}), k = one_of<int64_t>({1, 7, 128, 150});
  SearchCall call = {};
  call.weight_dtype = one_of<int64_t>({kFloat32, kBFloat16, kFloat16});
  call.weight = floats(n * k, call.weight_dtype);
  call.out_features = n;
  call.in_features = k;
  call.block_in = one_of<int64_t>({1, 5, 16, 64});
  call.bits = 2 + draw(7);
  call.threads = 2;
  call.smallest_scale = 0x1p-102;
  if (draw(2)) call.shares = positive(4);
  call.tries = call.shares ? 4 : 2;
  const int64_t groups = (k + call.block_in - 1) / call.block_in;
  call.codes = tensor<int8_t>(n * k);
  call.block_scale = tensor<uint8_t>(n * groups);
  call.row_scale = tensor<float>(n);
  check(duquant_search(kernel, &call));
  add_bytes(call.codes, n * k);
  add_bytes(call.block_scale, n * groups);
  add_floats(call.row_scale, n, kFloat32);
}

void run_feedback(int kernel) {
  const int64_t n = one_of<int64_t>({16, 48}), k = one_of<int64_t>({1, 7, 64, 83});
  FeedbackCall call = {};
  call.own = (float*)floats(n * k, kFloat32);
  call.target = (const float*)floats(n * k, kFloat32);
  call.stride = k + draw(3);
  call.ratios = (const float*)floats(k * call.stride, kFloat32);
  call.weights = positive(k);
  call.rows = n;
  call.channels = k;
  call.block_in = one_of<int64_t>({1, 5, 16, 64});
  call.bits = 2 + draw(7);
  call.largest = 128 >> (call.bits - 1);
  call.tries = call.largest < 5 ? call.largest : 5;
  call.threads = 2;
  const int64_t groups = (k + call.block_in - 1) / call.block_in;
  call.codes = tensor<int8_t>(n * k);
  call.block_scale = tensor<uint8_t>(n * groups);
  check(duquant_feedback(kernel, &call));
  add_bytes(call.codes, n * k);
  add_bytes(call.block_scale, n * groups);
  add_floats(call.own, n * k, kFloat32);
}

}  // namespace

int main(int count, char** arguments) {
  const bool is_short = count > 1 && strcmp(arguments[1], "overrun") == 0;
  const bool is_wrong = count > 1 && strcmp(arguments[1], "wrong") == 0;
  for (int kernel = 0; duquant_kernel(kernel); kernel++) {
    const bool is_emulated = !strcmp(duquant_kernel(kernel), "amx_int8") && begin_emulated_tiles(is_wrong);
    if (!duquant_is_supported(kernel) && !is_emulated) continue;
    state = 1;
    hash = 14695981039346656037u;
    for (int i = 0; i < 120; i++) {
      run_layer(kernel, is_short, i % 5 == 0);
      if (i % 3 == 0) run_search(kernel);
      if (i % 3 == 1) run_feedback(kernel);
      kept.clear();
    }
    printf("%s %016llx\n", duquant_kernel(kernel), (unsigned long long)hash);
  }
  return 0;
}
