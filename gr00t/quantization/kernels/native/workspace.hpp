// Memory for one call, and the threads that share it.
#pragma once
#include <cstdlib>

#include "numbers.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace KERNEL {

// Below this many multiply-adds waking another thread takes longer than it saves.
constexpr double PARALLEL_FROM = 4e6;

static inline int64_t threads_for(int64_t threads, double work) {
  return work < PARALLEL_FROM || threads < 1 ? 1 : threads;
}

static inline int thread_number() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// The largest block is kept for the next call, up to a bound: fresh memory would cost a page fault every 4096 bytes, a
// tenth of a small layer's time.
class Workspace {
 public:
  explicit Workspace(int64_t bytes) {
    block_ = __atomic_exchange_n(&kept_, (Block*)nullptr, __ATOMIC_ACQUIRE);
    if (block_ && block_->bytes < bytes) {
      free(block_);
      block_ = nullptr;
    }
    if (!block_) {
      block_ = new_block(bytes);
    }
    data = block_ ? (char*)(block_ + 1) : nullptr;
  }
  ~Workspace() {
    if (block_ && block_->bytes <= KEPT_BYTES) block_ = __atomic_exchange_n(&kept_, block_, __ATOMIC_ACQ_REL);
    free(block_);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  bool is_there() const { return block_; }

  char* data;

 private:
  struct alignas(64) Block {
    int64_t bytes;
  };
  // On pages as large as there are, where the block fills some: what a layer reads and writes is more than the
  // processor remembers small pages of.
  static Block* new_block(int64_t bytes) {
    const int64_t whole = bytes + (int64_t)sizeof(Block), step = whole < PAGE ? 64 : PAGE;
    Block* made = (Block*)aligned_alloc((size_t)step, (size_t)round_up(whole, step));
    if (!made) return nullptr;
#if defined(__linux__)
    if (step == PAGE) madvise(made, (size_t)round_up(whole, step), MADV_HUGEPAGE);
#endif
    made->bytes = round_up(whole, step) - (int64_t)sizeof(Block);
    return made;
  }

  static constexpr int64_t KEPT_BYTES = 32 << 20, PAGE = 2 << 20;
  static Block* kept_;
  Block* block_;
};

Workspace::Block* Workspace::kept_ = nullptr;

}  // namespace KERNEL
