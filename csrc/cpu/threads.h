// The few OpenMP calls the kernels need, with their one-thread meaning where OpenMP is absent.
#pragma once

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace ft {
namespace FT_ISA {

#if defined(_OPENMP)
inline int max_threads() { return omp_get_max_threads(); }
inline int threads() { return omp_get_num_threads(); }
inline int thread() { return omp_get_thread_num(); }
#else
inline int max_threads() { return 1; }
inline int threads() { return 1; }
inline int thread() { return 0; }
#endif

}  // namespace FT_ISA
}  // namespace ft
