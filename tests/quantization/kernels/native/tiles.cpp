// Tile instructions against sums one by one, and the reasons why there are none: emulated_tiles.cpp is tested by the
// same program as the hardware.
//
//   tiles reasons      what `tile_refusal` says of made-up facts
//   tiles products     shapes, signs, addresses; the number of products that were compared
//   tiles wrong        whether the kernel's own test notices a processor (an emulator) that multiplies wrongly
//   tiles NAME         does what the processor has to refuse
// Ends with status 77 where there are neither tiles nor instructions to emulate them with.
#define KERNEL tiles
#include <cstdio>
#include <cstdlib>

#include "isa/amx/permission.hpp"

extern "C" int begin_emulated_tiles(int wrong);

namespace {

using namespace KERNEL;

uint64_t state = 1;

int draw(int below) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (int)((state >> 33) % (uint64_t)below);
}

void load_configuration(const TileConfiguration& wanted) { __asm__ volatile("ldtilecfg %0" : : "m"(wanted)); }

// Tiles 0 (rows, columns words), 1 (rows, 4 inner bytes), 2 (inner, columns words); the others are left out.
TileConfiguration shapes(int rows, int inner, int columns) {
  TileConfiguration made;
  for (int tile = 3; tile < 8; tile++) made.rows[tile] = 0, made.row_bytes[tile] = 0;
  made.rows[0] = made.rows[1] = (uint8_t)rows;
  made.rows[2] = (uint8_t)inner;
  made.row_bytes[0] = made.row_bytes[2] = (uint16_t)(4 * columns);
  made.row_bytes[1] = (uint16_t)(4 * inner);
  return made;
}

void must(bool condition, const char* what) {
  if (condition) return;
  printf("wrong: %s\n", what);
  exit(1);
}

// Every way to name memory, and every base register that is encoded in a way of its own.
#define THROUGH(instruction, base, index)                                    \
  __asm__ volatile("mov %0, %%" base "\n mov %1, %%" index "\n " instruction \
                   :                                                         \
                   : "r"(memory), "r"((int64_t)64)                           \
                   : base, index, "memory")

void try_addresses() {
  alignas(64) static uint8_t area[8 * TILE], found[TILE];
  for (uint8_t& byte : area) byte = (uint8_t)draw(256);
  uint8_t* memory = area + 2 * TILE;
  load_configuration(TileConfiguration());
  const auto expect = [&](int64_t from, int64_t step, const char* what) {
    tile_store<3>(found);
    for (int row = 0; row < 16; row++) must(!memcmp(found + row * 64, memory + from + row * step, 64), what);
  };
  THROUGH("tileloadd (%%rax,%%rcx,1), %%tmm3", "rax", "rcx");
  expect(0, 64, "rax, rcx");
  THROUGH("tileloadd 0x41(%%r12,%%r13,1), %%tmm3", "r12", "r13");
  expect(0x41, 64, "r12 and a byte, r13");
  THROUGH("tileloadd -0x80(%%r13,%%r12,2), %%tmm3", "r13", "r12");
  expect(-0x80, 128, "r13 and a negative byte, r12 twice");
  THROUGH("tileloadd (%%r13,%%r14,4), %%tmm3", "r13", "r14");
  expect(0, 256, "r13, r14 four times");
  THROUGH("tileloadd 0x201(%%r8,%%r15,1), %%tmm3", "r8", "r15");
  expect(0x201, 64, "r8 and four bytes, r15");
  THROUGH("tileloaddt1 -0x200(%%rdi,%%rsi,1), %%tmm3", "rdi", "rsi");
  expect(-0x200, 64, "tileloaddt1, rdi and four negative bytes");
  uint8_t* to = found;
  int64_t stride = 64;
  __asm__ volatile(
      "sub $2048, %%rsp\n tilestored %%tmm3, 0x40(%%rsp,%%rcx,1)\n lea 0x40(%%rsp), %%rsi\n"
      "mov $1024, %%ecx\n rep movsb\n add $2048, %%rsp"
      : "+D"(to), "+c"(stride)
      :
      : "rsi", "memory");
  must(!memcmp(found, memory - 0x200, TILE), "a store to rsp and a byte");
  tile_zero<3>();
  tile_store<3>(found);
  for (const uint8_t byte : found) must(byte == 0, "tilezero");
}

#define PRODUCT(name) __asm__ volatile(name " %%tmm2, %%tmm1, %%tmm0" : :)

// All four signs, sizes from one to sixteen, on top of sums that wrap around.
int try_products() {
  alignas(64) uint8_t one[TILE], two[TILE];
  alignas(64) uint32_t before[256], after[256];
  int compared = 0;
  for (int round = 0; round < 64; round++) {
    const int rows = 1 + draw(16), inner = 1 + draw(16), columns = 1 + draw(16), signs = round % 4;
    for (uint8_t& byte : one) byte = (uint8_t)draw(256);
    for (uint8_t& byte : two) byte = (uint8_t)draw(256);
    for (uint32_t& sum : before) sum = (uint32_t)draw(1 << 30) * 4;
    load_configuration(shapes(rows, inner, columns));
    tile_load<0>(before);
    tile_load<1>(one);
    tile_load<2>(two);
    switch (signs) {
      case 0: PRODUCT("tdpbssd"); break;
      case 1: PRODUCT("tdpbsud"); break;
      case 2: PRODUCT("tdpbusd"); break;
      default: PRODUCT("tdpbuud"); break;
    }
    tile_store<0>(after);
    for (int m = 0; m < rows; m++) {
      for (int n = 0; n < columns; n++, compared++) {
        uint32_t sum = before[m * 16 + n];
        for (int k = 0; k < 4 * inner; k++) {
          const uint8_t a = one[m * 64 + k], b = two[k / 4 * 64 + 4 * n + k % 4];
          sum += (uint32_t)((signs & 2 ? a : (int8_t)a) * (signs & 1 ? b : (int8_t)b));
        }
        must(sum == after[m * 16 + n], "a sum of products");
      }
    }
  }
  return compared;
}

void try_configurations() {
  const TileConfiguration wanted = shapes(3, 5, 7);
  TileConfiguration found;
  load_configuration(wanted);
  {
    const Configured whole;
    __asm__ volatile("sttilecfg %0" : "=m"(found));
    must(found.rows[7] == 16 && found.row_bytes[7] == 64, "eight whole tiles");
  }
  __asm__ volatile("sttilecfg %0" : "=m"(found));
  must(!memcmp(&found, &wanted, sizeof found), "the configuration before is there again");
  __asm__ volatile("tilerelease");
  {
    const Configured whole;
  }
  __asm__ volatile("sttilecfg %0" : "=m"(found));
  must(!found.palette && !found.rows[0] && !found.row_bytes[0], "released where there was none");
}

void do_what_is_refused(const char* what) {
  TileConfiguration wanted = shapes(16, 16, 16);
  if (!strcmp(what, "unconfigured")) __asm__ volatile("tilerelease\n tilezero %tmm0");
  if (!strcmp(what, "absent")) load_configuration(wanted), tile_zero<3>();
  if (!strcmp(what, "rows")) wanted.rows[1] = 15, load_configuration(wanted), tile_dot<0, 1, 2>();
  if (!strcmp(what, "inner")) wanted.rows[2] = 15, load_configuration(wanted), tile_dot<0, 1, 2>();
  if (!strcmp(what, "columns")) wanted.row_bytes[2] = 60, load_configuration(wanted), tile_dot<0, 1, 2>();
  if (!strcmp(what, "size")) wanted.row_bytes[1] = 65, load_configuration(wanted);
  if (!strcmp(what, "half")) wanted.row_bytes[1] = 0, load_configuration(wanted);
  if (!strcmp(what, "palette")) wanted.palette = 2, load_configuration(wanted);
  if (!strcmp(what, "other")) __asm__ volatile("ud2");
}

void print_reasons() {
  const TileFacts facts[] = {{false, true, true, 0, true},      {true, true, true, 0, true},
                             {true, false, true, 0, true},      {true, true, false, 0, false},
                             {true, true, true, EPERM, false},  {true, true, true, ENOSPC, false},
                             {true, true, true, EINVAL, false}, {true, true, true, 0, false}};
  for (const TileFacts& made_up : facts) {
    const char* refusal = tile_refusal(made_up);
    puts(refusal ? refusal : "-");
  }
}

}  // namespace

int main(int, char** arguments) {
  const char* what = arguments[1];
  if (!strcmp(what, "reasons")) return print_reasons(), 0;
  const bool is_wrong = !strcmp(what, "wrong");
  if (!begin_emulated_tiles(is_wrong)) {
    const TileFacts facts = find_tile_facts(true);
    if (!facts.has_tiles || tile_refusal(facts)) return 77;
  }
  if (is_wrong) return printf("%s\n", tiles_are_right() ? "not noticed" : "noticed"), 0;
  if (strcmp(what, "products")) return do_what_is_refused(what), 0;
  must(tiles_are_right(), "the kernel's own test");
  try_addresses();
  try_configurations();
  printf("%d\n", try_products());
  return 0;
}
