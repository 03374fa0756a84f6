// The whole layer by tiles, in one parallel region; and its sums alone.
#pragma once
#include "../../workspace.hpp"
#include "epilogue.hpp"

namespace KERNEL {

// How a call is cut: runs of rows whose codes leave room in the second cache for what else goes through it, and of
// outputs a job for each thread or several.
struct TileRun {
  int64_t rows, job;
  Tiling tiling;
  int64_t scales_bytes, wide_bytes, sums_bytes;

  TileRun(const Arguments& a, bool is_fused)
      : rows(rows_at_a_time(a)),
        job(is_fused ? outputs_of_job(a) : PANEL),
        tiling(a.in_features, rows),
        scales_bytes(tiling.groups * SIDE * 4),
        wide_bytes(PanelEpilogue::is_whole(a) ? 0 : round_up(rows * a.out_features * 4, 64)),
        sums_bytes(multiply_outputs_bytes(tiling) +
                   (is_fused ? TileEpilogue::bytes(tiling) : PanelSums::bytes(tiling))) {}

 private:
  static int64_t rows_at_a_time(const Arguments& a) {
    constexpr int64_t CODES_BYTES = 5 << 18, MOST = 768;  // of a cache of 2 MB
    const int64_t most = larger(TOKENS, smaller(MOST, CODES_BYTES / round_up(a.in_features, CHUNK)));
    const int64_t runs = (a.rows + most - 1) / most;
    return smaller(round_up((a.rows + runs - 1) / runs, TOKENS), round_up(a.rows, SIDE));
  }

  static int64_t outputs_of_job(const Arguments& a) {
    const int64_t threads = larger(a.threads, 1), each = STAGED * threads;
    const int64_t jobs = (a.out_features + each - 1) / each * threads;
    return round_up((a.out_features + jobs - 1) / jobs, OUTPUTS);
  }
};

static int64_t tile_threads(const Arguments& a) {
  return threads_for(a.threads, (double)a.in_features * (double)a.out_features * (double)a.rows);
}

// Outputs [n, end) of a run whose codes are x: `own` is the thread's workspace, `rotation` what `prepare` made.
static void multiply_job(const Arguments& a, const Tiling& tiling, const int8_t* x, const float* s, int64_t n,
                         int64_t end, char* own, float* rotation, float* wide) {
  char* after = own + multiply_outputs_bytes(tiling);
  if (TileEpilogue::is_for(a)) {
    const TileEpilogue sink(a, n, end, s, after);
    multiply_outputs(a, tiling, x, n, end, own, sink);
    sink.write();
  } else {
    const PanelSums sums(a.rows, after);
    multiply_outputs(a, tiling, x, n, end, own, sums);
    sums.write(Outputs{PanelEpilogue(a, n, rotation), s, wide});
  }
}

static int linear_by_tiles(const Arguments& a) {
  if (!is_permutation(a)) return 2;
  const TileRun run(a, TileEpilogue::is_for(a));
  const int64_t threads = tile_threads(a), rotation_bytes = PanelEpilogue::bytes(a);
  const int64_t own_bytes = larger(Transformed::bytes(a), run.sums_bytes + rotation_bytes);
  const int64_t shared_bytes = run.tiling.x_bytes() + run.scales_bytes + run.wide_bytes;
  Workspace memory(shared_bytes + threads * own_bytes);
  if (!memory.is_there()) return 1;
  int8_t* x = (int8_t*)memory.data;
  float* s = (float*)(memory.data + run.tiling.x_bytes());
  float* wide = run.wide_bytes ? (float*)((char*)s + run.scales_bytes) : nullptr;
#pragma omp parallel num_threads((int)threads)
  {
    const Configured tiles;
    char* own = memory.data + shared_bytes + thread_number() * own_bytes;
    float* rotation = (float*)(own + run.sums_bytes);
    for (int64_t first = 0; first < a.rows; first += run.rows) {
      const Arguments part = a.rows_from(first, smaller(run.rows, a.rows - first));
      const Tiling tiling(a.in_features, part.rows);
#pragma omp for schedule(static)
      for (int64_t g = 0; g < tiling.groups; g++) prologue_to_tiles(part, g, tiling, (Floats*)own, x, s);
      PanelEpilogue::prepare(part, rotation);
#pragma omp for schedule(static)
      for (int64_t n = 0; n < a.out_features; n += run.job) {
        multiply_job(part, tiling, x, s, n, smaller(n + run.job, a.out_features), own, rotation, wide);
      }
      if (wide) {
#pragma omp for schedule(static)
        for (int64_t b = 0; b < (a.out_features + a.block_out - 1) / a.block_out; b++) {
          restore_wide(part, b, part.rows, wide, rotation);
        }
      }
    }
  }
  return 0;
}

static int accumulate_by_tiles(const Arguments& a) {
  const TileRun run(a, false);
  const int64_t threads = tile_threads(a);
  Workspace memory(run.tiling.x_bytes() + threads * run.sums_bytes);
  if (!memory.is_there()) return 1;
  int8_t* x = (int8_t*)memory.data;
#pragma omp parallel num_threads((int)threads)
  {
    const Configured tiles;
    char* own = memory.data + run.tiling.x_bytes() + thread_number() * run.sums_bytes;
    for (int64_t first = 0; first < a.rows; first += run.rows) {
      const Arguments part = a.rows_from(first, smaller(run.rows, a.rows - first));
      const Tiling tiling(a.in_features, part.rows);
#pragma omp for schedule(static)
      for (int64_t g = 0; g < tiling.groups; g++) codes_to_tiles(part, g, tiling, x);
#pragma omp for schedule(static)
      for (int64_t n = 0; n < a.out_features; n += run.job) {
        const PanelSums sums(part.rows, own + multiply_outputs_bytes(tiling));
        multiply_outputs(part, tiling, x, n, smaller(n + run.job, a.out_features), own, sums);
        sums.write(Sums{part, n});
      }
    }
  }
  return 0;
}

}  // namespace KERNEL
