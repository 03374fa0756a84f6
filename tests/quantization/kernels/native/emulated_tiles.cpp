// AMX's tile instructions, done by a signal handler: so that the machine code of a kernel that uses them runs, and is
// tested, on a processor that has none of them.
//
// The processor refuses such an instruction with SIGILL; the handler reads it where it stands, computes what it would
// have done to the thread's tiles, and goes on behind it. It refuses what the hardware refuses: then, and at any
// instruction that is not AMX's, the process ends as it would have without. One instruction takes a few microseconds.
//
// Oracle: the reference of the instruction set (Intel's manual, volume 2, chapter 3; volume 1, chapter 18).
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <ucontext.h>
#include <unistd.h>

namespace {

constexpr int TILES = 8, ROWS = 16, BYTES = 64;

struct Configuration {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(Configuration) == 64);

struct Tiles {
  Configuration configuration;
  uint8_t data[TILES][ROWS][BYTES];
};

thread_local Tiles tiles;

// Instructions that were emulated, in all threads.
uint64_t done = 0;

// A mistake to make, for the tests of the tests: products of one pair of signs computed as another's.
bool is_wrong = false;

struct sigaction before;

[[noreturn]] void refuse(const char* why) {
  char text[128];
  const int length = snprintf(text, sizeof text, "emulated tiles: %s\n", why);
  if (write(STDERR_FILENO, text, (size_t)length) < 0) abort();
  signal(SIGILL, SIG_DFL);
  raise(SIGILL);
  abort();
}

// Where the numbers of registers in instructions stand in a saved context.
constexpr int REGISTER[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

// One instruction: VEX with three bytes, map 0F38, 128 bits, W0.
struct Instruction {
  const uint8_t* at;
  const greg_t* registers;
  bool r, x, b;
  int vvvv, prefix, opcode, mod, reg, rm;
  int length = 0;
  // Of one in memory:
  uint64_t address = 0, stride = 0;
  bool has_index = false;

  Instruction(const uint8_t* at, const greg_t* registers) : at(at), registers(registers) {
    r = !(at[1] & 0x80), x = !(at[1] & 0x40), b = !(at[1] & 0x20);
    vvvv = ~at[2] >> 3 & 15, prefix = at[2] & 3, opcode = at[3];
    mod = at[4] >> 6, reg = at[4] >> 3 & 7, rm = at[4] & 7;
    length = 5;
    if (mod != 3) find_address();
  }

  bool is_vex() const { return at[0] == 0xc4 && (at[1] & 31) == 2 && !(at[2] & 0x84); }

 private:
  uint64_t value(int number) const { return (uint64_t)registers[REGISTER[number]]; }

  int64_t displacement(int bytes) {
    int64_t result = 0;
    if (bytes == 1) result = (int8_t)at[length];
    if (bytes == 4) {
      int32_t four;
      memcpy(&four, at + length, 4);
      result = four;
    }
    length += bytes;
    return result;
  }

  void find_address() {
    const int bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (rm == 4) {  // a byte with base, index and scale
      const int sib = at[length++], base = (sib & 7) | b << 3, index = (sib >> 3 & 7) | x << 3;
      has_index = true;
      if (index != 4) stride = value(index) << (sib >> 6);  // rsp is no index
      if ((sib & 7) == 5 && mod == 0) refuse("an address without a base is not emulated");
      address = value(base) + (uint64_t)displacement(bytes);
    } else if (mod == 0 && rm == 5) {  // from the next instruction on
      const int64_t from = displacement(4);
      address = (uint64_t)(at + length) + (uint64_t)from;
    } else {
      address = value(rm | b << 3) + (uint64_t)displacement(bytes);
    }
  }
};

bool is_configured() { return tiles.configuration.palette != 0; }

int rows_of(int tile) { return tiles.configuration.rows[tile]; }
int bytes_of(int tile) { return tiles.configuration.bytes[tile]; }

void must_be_tile(int tile) {
  if (!is_configured()) refuse("no configuration is loaded");
  if (tile >= TILES || !rows_of(tile) || !bytes_of(tile)) refuse("the tile has no rows");
}

void configure(const uint8_t* from) {
  Configuration wanted;
  memcpy(&wanted, from, sizeof wanted);
  if (wanted.palette > 1) refuse("no such palette");
  for (int i = 0; i < 14; i++) {
    if (wanted.reserved[i]) refuse("reserved bytes of a configuration are not zero");
  }
  for (int tile = 0; tile < 16 && wanted.palette; tile++) {
    const bool is_there = tile < TILES ? wanted.rows[tile] <= ROWS && wanted.bytes[tile] <= BYTES : !wanted.rows[tile];
    if (!is_there || !wanted.rows[tile] != !wanted.bytes[tile]) refuse("a tile of that size is none");
  }
  memset(&tiles, 0, sizeof tiles);
  if (wanted.palette) tiles.configuration = wanted;
}

void load(const Instruction& in) {
  must_be_tile(in.reg);
  memset(tiles.data[in.reg], 0, sizeof tiles.data[in.reg]);
  for (int row = 0; row < rows_of(in.reg); row++) {
    memcpy(tiles.data[in.reg][row], (const void*)(in.address + in.stride * (uint64_t)row), (size_t)bytes_of(in.reg));
  }
}

void store(const Instruction& in) {
  must_be_tile(in.reg);
  for (int row = 0; row < rows_of(in.reg); row++) {
    memcpy((void*)(in.address + in.stride * (uint64_t)row), tiles.data[in.reg][row], (size_t)bytes_of(in.reg));
  }
}

// A row of sums for each tile row: `sums` (rows, 16) += `left` (rows, bytes) `right` (bytes, 16).
__attribute__((target("avx512f"), optimize("O3"))) void add_products(uint8_t (*sums)[BYTES],
                                                                     const int32_t (*left)[BYTES],
                                                                     const int32_t (*right)[BYTES / 4], int rows,
                                                                     int bytes) {
  for (int m = 0; m < rows; m++) {
    uint32_t sum[BYTES / 4];
    memcpy(sum, sums[m], BYTES);
    for (int k = 0; k < bytes; k++) {
      for (int n = 0; n < BYTES / 4; n++) sum[n] += (uint32_t)(left[m][k] * right[k][n]);
    }
    memcpy(sums[m], sum, BYTES);
  }
}

// sums (M, N) += one (M, K) two (K, N), four bytes of K in a word.
void multiply(int sums, int one, int two, bool one_is_signed, bool two_is_signed) {
  for (const int tile : {sums, one, two}) must_be_tile(tile);
  if (sums == one || sums == two || one == two) refuse("a product of a tile and itself");
  if (rows_of(sums) != rows_of(one) || bytes_of(sums) != bytes_of(two) || bytes_of(one) != 4 * rows_of(two) ||
      bytes_of(sums) % 4) {
    refuse("tiles of a product whose sizes do not fit");
  }
  int32_t left[ROWS][BYTES], right[BYTES][BYTES / 4];
  for (int i = 0; i < ROWS * BYTES; i++) {  // beyond its rows and bytes a tile is zero
    const uint8_t a = tiles.data[one][i / BYTES][i % BYTES], b = tiles.data[two][i / BYTES][i % BYTES];
    left[i / BYTES][i % BYTES] = one_is_signed ? (int8_t)a : a;
    right[i / BYTES * 4 + i % 4][i % BYTES / 4] = two_is_signed ? (int8_t)b : b;
  }
  add_products(tiles.data[sums], left, right, rows_of(sums), bytes_of(one));
}

enum Prefix { NONE, P66, PF3, PF2 };

// Whether it was one of AMX's.
bool execute(const Instruction& in) {
  if (!in.is_vex()) return false;
  const bool is_memory = in.mod != 3;
  if (in.opcode == 0x49 && is_memory && in.reg == 0 && in.prefix == NONE) {  // ldtilecfg
    configure((const uint8_t*)in.address);
  } else if (in.opcode == 0x49 && is_memory && in.reg == 0 && in.prefix == P66) {  // sttilecfg
    memcpy((void*)in.address, &tiles.configuration, sizeof tiles.configuration);
  } else if (in.opcode == 0x49 && in.at[4] == 0xc0 && in.prefix == NONE) {  // tilerelease
    memset(&tiles, 0, sizeof tiles);
  } else if (in.opcode == 0x49 && !is_memory && in.rm == 0 && in.prefix == PF2) {  // tilezero
    must_be_tile(in.reg);
    memset(tiles.data[in.reg], 0, sizeof tiles.data[in.reg]);
  } else if (in.opcode == 0x4b && in.has_index && (in.prefix == PF2 || in.prefix == P66)) {  // tileloadd, tileloaddt1
    load(in);
  } else if (in.opcode == 0x4b && in.has_index && in.prefix == PF3) {  // tilestored
    store(in);
  } else if (in.opcode == 0x5e && !is_memory && !in.r && !in.b) {  // tdpb{ss,su,us,uu}d
    const bool one_is_signed = in.prefix == PF2 || in.prefix == PF3,
               two_is_signed = in.prefix == PF2 || in.prefix == P66;
    multiply(in.reg, in.rm, in.vvvv, one_is_signed, two_is_signed && !is_wrong);
  } else {
    return false;
  }
  return true;
}

void handle(int, siginfo_t*, void* context) {
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  const Instruction in((const uint8_t*)registers[REG_RIP], registers);
  if (execute(in)) {
    registers[REG_RIP] += in.length;
    __atomic_fetch_add(&done, 1, __ATOMIC_RELAXED);
  } else {
    sigaction(SIGILL, &before, nullptr);  // the same instruction comes again
  }
}

// Whether it can take the place of tiles here: the rest of the kernel's instructions are there, and no tiles are.
bool is_wanted() {
  unsigned a, b, c = 0, d = 0;
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512vnni") || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned TILES = 1u << 24, VBMI = 1u << 1, GFNI = 1u << 8;
  return !(d & TILES) && (c & VBMI) && (c & GFNI);
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

// From here on, for all threads, until `end_emulated_tiles`; with a mistake if `wrong`. Returns whether they are there.
EXPORTED int begin_emulated_tiles(int wrong) {
  if (!is_wanted()) return 0;
  is_wrong = wrong;
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  return !sigaction(SIGILL, &action, &before);
}

EXPORTED uint64_t emulated_instructions() { return done; }

EXPORTED void end_emulated_tiles() { sigaction(SIGILL, &before, nullptr); }

#else

extern "C" int begin_emulated_tiles(int) { return 0; }
extern "C" unsigned long emulated_instructions() { return 0; }
extern "C" void end_emulated_tiles() {}

#endif
