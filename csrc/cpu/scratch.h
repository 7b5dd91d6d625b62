// Working memory and threads of a kernel.
//
// No std containers here: their code would be emitted once per instruction set under one name, and
// the linker may keep the copy that this CPU cannot run.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

// Hands out cache-line aligned arrays from one block; over a null block it only counts.
class Carver {
 public:
  explicit Carver(char* block) : block_(block) {}
  template <class T>
  T* take(int64_t n) {
    char* at = block_ + used_;
    used_ += (n * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return reinterpret_cast<T*>(at);
  }
  int64_t used() const { return used_; }

 private:
  char* block_;
  int64_t used_ = 0;
};

// One `Scratch` per thread, zeroed unless told otherwise, all in one block. A Scratch is a struct of pointers whose
// constructor takes (args…, Carver&). Allocation may throw: it is done outside of parallel regions.
template <class Scratch, bool zeroed = true>
class PerThread {
 public:
  template <class... Args>
  PerThread(int threads, const Args&... args) {
    Carver counter(nullptr);
    Scratch(args..., counter);
    size_ = counter.used();
    const size_t bytes = static_cast<size_t>(size_ > 0 ? size_ : 64) * threads;
    block_ = static_cast<char*>(std::aligned_alloc(64, bytes));
    if (block_ == nullptr) throw std::bad_alloc();
    if (zeroed) std::memset(block_, 0, bytes);
  }
  PerThread(const PerThread&) = delete;
  PerThread& operator=(const PerThread&) = delete;
  ~PerThread() { std::free(block_); }

  template <class... Args>
  Scratch of(int thread, const Args&... args) {
    Carver carver(block_ + thread * size_);
    return Scratch(args..., carver);
  }

 private:
  char* block_;
  int64_t size_;
};

FT_INLINE int max_threads() {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

FT_INLINE int thread_index() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// Ask for 2 MiB pages under a large fresh output: 4 KiB page faults can cost more than the kernel.
// A hint only; memory that has its pages already is left as it is.
FT_INLINE void hint_huge_pages(void* p, int64_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kHuge = uintptr_t{1} << 21, kPage = 4096;
  if (bytes < static_cast<int64_t>(2 * kHuge)) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(p) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(p) + static_cast<uintptr_t>(bytes)) / kPage * kPage;
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)p;
  (void)bytes;
#endif
}

}  // namespace FT_ISA
}  // namespace ft
