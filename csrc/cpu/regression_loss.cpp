// Value and gradient of a regression loss in one pass over the positions.
#include "regression_loss.h"

#include "cpu/simd.h"

namespace ft {
namespace FT_ISA {

namespace {

// Blocks are summed in float64 and in a fixed order: the result does not depend on the thread count.
constexpr int64_t kBlock = 4096;
constexpr int64_t kParallelFrom = 4 * kBlock;

constexpr int kChunk = 256;

// One chunk of positions; a loop without branches or sums, which the compiler vectorises.
template <Loss form, bool weighted>
FT_INLINE void run_chunk(const LossParams& k, const float* __restrict p, const float* __restrict y,
                         const float* __restrict w, float scale, float* __restrict value, float* __restrict grad,
                         int count) {
  const LossParams params{form, k.a, k.c};
  for (int i = 0; i < count; ++i) {
    const ValueGrad at = regression_loss_at(params, p[i], y[i]);
    const float weight = weighted ? w[i] * scale : scale;
    grad[i] = at.grad * weight;
    value[i] = at.value * weight;
  }
}

template <Loss form, bool weighted>
double run_block(const RegressionLossArgs& args, int64_t begin, int64_t end) {
  double total = 0;
  for (int64_t i = begin; i < end; i += kChunk) {
    alignas(64) float value[kChunk];
    if (end - i < kChunk) std::memset(value, 0, sizeof value);  // the tail sums whole vectors
    const int count = static_cast<int>(end - i < kChunk ? end - i : kChunk);
    const float* weight = weighted ? args.weight + i : nullptr;
    if (count == kChunk) {
      run_chunk<form, weighted>(args.params, args.prediction + i, args.target + i, weight, args.scale, value,
                                args.grad + i, kChunk);
    } else {
      run_chunk<form, weighted>(args.params, args.prediction + i, args.target + i, weight, args.scale, value,
                                args.grad + i, count);
    }
    if (!args.reduced) {
      std::memcpy(args.value + i, value, count * sizeof(float));
      continue;
    }
    vf partial = {};
    for (int lane = 0; lane < kChunk; lane += FT_LANES) partial += load(value + lane);
    total += sum(partial);
  }
  return total;
}

template <Loss form, bool weighted>
void run_form(const RegressionLossArgs& args) {
  const int64_t blocks = (args.n + kBlock - 1) / kBlock;
  constexpr int64_t kMaxStack = 64;
  double total = 0;
  for (int64_t first = 0; first < blocks; first += kMaxStack) {
    const int64_t last = first + kMaxStack < blocks ? first + kMaxStack : blocks;
    double sums[kMaxStack];
#pragma omp parallel for schedule(static) if (args.n >= kParallelFrom)
    for (int64_t b = first; b < last; ++b) {
      const int64_t end = (b + 1) * kBlock;
      sums[b - first] = run_block<form, weighted>(args, b * kBlock, end < args.n ? end : args.n);
    }
    for (int64_t b = first; b < last; ++b) total += sums[b - first];
  }
  if (args.reduced) *args.value = static_cast<float>(total);
}

template <Loss form>
void run(const RegressionLossArgs& args) {
  args.weight ? run_form<form, true>(args) : run_form<form, false>(args);
}

}  // namespace

void regression_loss(const RegressionLossArgs& args) {
  switch (args.params.form) {
    case Loss::Truncated:
      return run<Loss::Truncated>(args);
    case Loss::ShrinkageModified:
      return run<Loss::ShrinkageModified>(args);
    case Loss::ShrinkageOriginal:
      return run<Loss::ShrinkageOriginal>(args);
    case Loss::Focal:
      return run<Loss::Focal>(args);
    case Loss::Square:
      return run<Loss::Square>(args);
  }
}

}  // namespace FT_ISA
}  // namespace ft
