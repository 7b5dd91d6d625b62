// Arguments of pca: products of centred rows with each other, the heart of a principal component analysis.
#pragma once

#include <cstdint>

namespace ft {

struct PcaProductArgs {
  const float* x;  // element k of row m at x[m · row_stride + k · step]
  int64_t rows, length, row_stride, step;
  const float* row_shift;   // `rows` values, or null: row m is read as x − row_shift[m] − step_shift[k]
  const float* step_shift;  // `length` values, or null
  double* product;          // rows × rows, written whole: Σ_k row_m[k] · row_n[k]
};

}  // namespace ft
