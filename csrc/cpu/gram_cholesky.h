// Cholesky factor of a Gram matrix plus λI, in panels of rows that suit the registers.
#pragma once

#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {

// Rows of the n×d matrix (or its columns) that the Gram matrix multiplies with each other: `count` vectors of
// length `depth`; element t of vector i lies at data[i * step + t * stride], one of step and stride being 1.
struct GramInput {
  const float* data;
  int64_t count, depth, step, stride;
};

// Memory of one factorisation.
struct GramScratch {
  GramScratch(int64_t count, int64_t depth, Carver& carver);
  float* packed;  // the input by panels
  float* factor;  // the lower triangle by panels
};

// factor (count, count) ← L of (G + λI), G the Gram matrix of the input; false where a pivot is not positive or
// not finite (then `factor` is not written). The same numbers on any number of threads.
bool gram_cholesky(const GramInput& input, double lam, const GramScratch& scratch, float* factor);

}  // namespace FT_ISA
}  // namespace ft
