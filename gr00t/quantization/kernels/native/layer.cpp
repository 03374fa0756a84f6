// The whole layer, compiled once for each instruction set with -DKERNEL=name and -DISA="isa/name.hpp": prologue, GEMM
// and epilogue in one parallel region, or one by one.
#include ISA

#include "epilogue.hpp"
#include "feedback.hpp"
#include "multiply.hpp"
#include "quantize.hpp"
#include "search.hpp"
#include "workspace.hpp"

namespace KERNEL {

// Groups of LANES rows through `body(first, count, transformed)`, by all threads.
template <class Body>
static int for_groups(const Arguments& a, const Body& body) {
  if (!is_permutation(a)) return 2;
  const int64_t groups = (a.rows + LANES - 1) / LANES;
  const int64_t threads = threads_for(a.threads, (double)a.rows * (double)a.in_features * 64);
  Workspace memory(threads * Transformed::bytes(a));
  if (!memory.is_there()) return 1;
#pragma omp parallel for num_threads((int)threads) schedule(static)
  for (int64_t g = 0; g < groups; g++) {
    Floats* workspace = (Floats*)(memory.data + thread_number() * Transformed::bytes(a));
    const int64_t first = g * LANES, count = smaller(LANES, a.rows - first);
    body(first, count, Transformed(a, first, count, workspace, workspace + padded(a.in_features)));
  }
  return 0;
}

static int rotate(const Arguments& a) {
  return for_groups(a, [&](int64_t first, int64_t count, const Transformed& rows) {
    for (int64_t k = 0; k < a.in_features; k++) {
      for (int64_t m = 0; m < count; m++) a.h[(first + m) * a.in_features + k] = rows.h[k][m];
    }
  });
}

static int prologue(const Arguments& a) {
  return for_groups(a, [&](int64_t first, int64_t count, const Transformed& rows) {
    const RowScales scales(a, rows.peak);
    quantize_matrix(a, scales, rows.h, count, a.q + first * a.in_features);
    for (int64_t m = 0; m < count; m++) a.s[first + m] = scales.scale[m];
  });
}

// Where a run's rows go through: codes as the GEMM reads them, what their sums begin at, token scales, and
// workspace of every thread's own.
struct Run {
  int64_t rows_up, codes_bytes, starts_bytes, scales_bytes, wide_bytes, multiply_bytes, own_bytes;

  explicit Run(const Arguments& a)
      : rows_up(round_up(smaller(a.rows, RUN), LANES)),
        codes_bytes(round_up(rows_up * padded(a.in_features), 64)),
        starts_bytes(round_up(rows_up * 4, 64)),
        scales_bytes(starts_bytes),
        wide_bytes(PanelEpilogue::is_whole(a) ? 0 : round_up(smaller(a.rows, RUN) * a.out_features * 4, 64)),
        multiply_bytes(KERNEL::multiply_bytes(a, rows_up)),
        own_bytes(larger(Transformed::bytes(a), multiply_bytes + PanelEpilogue::bytes(a))) {}
};

static void quantize_group(const Arguments& a, int64_t g, Floats* workspace, uint32_t* codes, int32_t* start,
                           float* s) {
  const int64_t first = g * LANES, count = smaller(LANES, a.rows - first);
  const Transformed rows(a, first, count, workspace, workspace + padded(a.in_features));
  const RowScales scales(a, rows.peak);
  const Ints sum = quantize_words(a, scales, rows.h, (Words*)(codes + first * (padded(a.in_features) / 4)));
  store(start + first, sum * -OFFSET);
  store(s + first, scales.scale);
}

// What an instruction set without a way of its own for a whole layer takes.
namespace by_panels {

static int linear(const Arguments& a) {
  if (!is_permutation(a)) return 2;
  const Run run(a);
  const int64_t threads =
      threads_for(a.threads, (double)a.in_features * (double)a.out_features * (double)(a.rows + TILE_ROWS));
  const int64_t shared_bytes = run.codes_bytes + run.starts_bytes + run.scales_bytes + run.wide_bytes;
  Workspace memory(shared_bytes + threads * run.own_bytes);
  if (!memory.is_there()) return 1;
  uint32_t* codes = (uint32_t*)memory.data;
  int32_t* start = (int32_t*)(memory.data + run.codes_bytes);
  float* s = (float*)((char*)start + run.starts_bytes);
  float* wide = run.wide_bytes ? (float*)((char*)s + run.scales_bytes) : nullptr;
  char* own_workspace = memory.data + shared_bytes;
  for (int64_t first = 0; first < a.rows; first += RUN) {
    const Arguments part = a.rows_from(first, smaller(RUN, a.rows - first));
    const int64_t groups = (part.rows + LANES - 1) / LANES, panels = (a.out_features + PANEL - 1) / PANEL;
#pragma omp parallel num_threads((int)threads)
    {
      char* own = own_workspace + thread_number() * run.own_bytes;
#pragma omp for schedule(static)
      for (int64_t g = 0; g < groups; g++) quantize_group(part, g, (Floats*)own, codes, start, s);
      PanelEpilogue::prepare(part, (float*)(own + run.multiply_bytes));
#pragma omp for schedule(static)
      for (int64_t p = 0; p < panels; p++) {
        const PanelEpilogue epilogue(part, p * PANEL, (float*)(own + run.multiply_bytes));
        multiply(part, p * PANEL, part.rows, codes, start, own, Outputs{epilogue, s, wide});
      }
      if (wide) {
#pragma omp for schedule(static)
        for (int64_t b = 0; b < (a.out_features + a.block_out - 1) / a.block_out; b++) {
          restore_wide(part, b, part.rows, wide, (float*)own);
        }
      }
    }
  }
  return 0;
}

static int accumulate(const Arguments& a) {
  const Run run(a);
  const int64_t threads = threads_for(a.threads, (double)a.in_features * (double)a.out_features * (double)a.rows);
  const int64_t shared_bytes = run.codes_bytes + run.starts_bytes;
  Workspace memory(shared_bytes + threads * run.multiply_bytes);
  if (!memory.is_there()) return 1;
  uint32_t* codes = (uint32_t*)memory.data;
  int32_t* start = (int32_t*)(memory.data + run.codes_bytes);
  const int64_t k_all = a.in_features, words = padded(k_all) / 4;
  for (int64_t first = 0; first < a.rows; first += RUN) {
    const Arguments part = a.rows_from(first, smaller(RUN, a.rows - first));
#pragma omp parallel num_threads((int)threads)
    {
#pragma omp for schedule(static)
      for (int64_t m = 0; m < part.rows; m++) {
        int32_t sum = 0;
        for (int64_t w = 0; w < words; w++) {  // the even and the odd inputs of eight
          int8_t four[4] = {};
          for (int i = 0; i < 4; i++) {
            const int64_t k = w / 2 * 8 + 2 * i + w % 2;
            four[i] = k < k_all ? part.q[m * k_all + k] : 0;
            sum += four[i];
          }
          uint32_t word;
          memcpy(&word, four, 4);
          codes[m / LANES * LANES * words + w * LANES + m % LANES] = word;
        }
        start[m] = sum * -OFFSET;
      }
#pragma omp for schedule(static)
      for (int64_t n = 0; n < a.out_features; n += PANEL) {
        char* own = memory.data + shared_bytes + thread_number() * run.multiply_bytes;
        multiply(part, n, part.rows, codes, start, own, Sums{part, n});
      }
    }
  }
  return 0;
}

}  // namespace by_panels

using namespace by_panels;

static int epilogue(const Arguments& a) {
  const bool is_whole = PanelEpilogue::is_whole(a);
  const int64_t wide_bytes = is_whole ? 0 : round_up(a.rows * a.out_features * 4, 64);
  const int64_t threads = threads_for(a.threads, (double)a.rows * (double)a.out_features * 64);
  Workspace memory(wide_bytes + threads * PanelEpilogue::bytes(a));
  if (!memory.is_there()) return 1;
  float* wide = is_whole ? nullptr : (float*)memory.data;
#pragma omp parallel num_threads((int)threads)
  {
    float* own = (float*)(memory.data + wide_bytes + thread_number() * PanelEpilogue::bytes(a));
    PanelEpilogue::prepare(a, own);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < a.out_features; n += PANEL) {
      const PanelEpilogue panel(a, n, own);
      constexpr int64_t ROWS = 16;
      alignas(64) int32_t acc[ROWS * PANEL] = {};
      for (int64_t m = 0; m < a.rows; m += ROWS) {
        const int64_t count = smaller(ROWS, a.rows - m);
        for (int64_t r = 0; r < count; r++) {
          memcpy(acc + r * PANEL, a.acc + (m + r) * a.out_features + n, (size_t)panel.width * 4);
        }
        panel.finish(m, count, acc, a.s + m, wide);
      }
    }
    if (wide) {
#pragma omp for schedule(static)
      for (int64_t b = 0; b < (a.out_features + a.block_out - 1) / a.block_out; b++) {
        restore_wide(a, b, a.rows, wide, own);
      }
    }
  }
  return 0;
}

static int search(const SearchCall& a) {
  const int64_t groups = (a.out_features + LANES - 1) / LANES;
  const int64_t threads = threads_for(a.threads, (double)a.out_features * (double)a.in_features * 64);
  Workspace memory(threads * Search::bytes(a));
  if (!memory.is_there()) return 1;
#pragma omp parallel for num_threads((int)threads) schedule(static)
  for (int64_t g = 0; g < groups; g++) {
    Search(a, g * LANES, (Floats*)(memory.data + thread_number() * Search::bytes(a))).run();
  }
  return 0;
}

static int feedback(const FeedbackCall& a) {
  const int64_t threads = threads_for(a.threads, (double)a.rows * (double)a.channels * (double)a.channels);
  Workspace memory(threads * Feedback::bytes(a));
  if (!memory.is_there()) return 1;
#pragma omp parallel for num_threads((int)threads) schedule(static)
  for (int64_t first = 0; first < a.rows; first += LANES) {
    Feedback(a, first, (Floats*)(memory.data + thread_number() * Feedback::bytes(a))).run();
  }
  return 0;
}

}  // namespace KERNEL

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define JOINED_OF(name) kernel_##name
#define JOINED(name) JOINED_OF(name)

extern const Kernel JOINED(KERNEL);
const Kernel JOINED(KERNEL) = {TEXT(KERNEL),     KERNEL::is_supported, KERNEL::refusal,  KERNEL::rotate,
                               KERNEL::prologue, KERNEL::accumulate,   KERNEL::epilogue, KERNEL::linear,
                               KERNEL::search,   KERNEL::feedback,     KERNEL::peak};
