// Value and gradient of a regression loss in one pass over the positions.
#include "regression_loss.h"

#include "cpu/vector_exp.h"

namespace ft {
namespace FT_ISA {

namespace {

// Blocks are summed in float64 and in a fixed order: the result does not depend on the thread count.
constexpr int64_t kBlock = 4096;
constexpr int64_t kParallelFrom = 4 * kBlock;

constexpr int64_t kChunk = 256;  // positions summed in float32

struct Both {
  vf value, grad;
};

FT_INLINE bool none(vi mask) {
#if FT_ISA_LEVEL >= 2
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) == 0;
#elif FT_ISA_LEVEL == 1
  return _mm256_testz_si256((__m256i)mask, (__m256i)mask) != 0;
#else
  int32_t any = 0;
  for (int i = 0; i < FT_LANES; ++i) any |= mask[i];
  return any == 0;
#endif
}

// regression_loss_at for a vector of positions, times a factor.
template <Loss form>
FT_INLINE Both loss_at(const LossParams& k, vf p, vf y, vf factor) {
  const vf e = p - y, size = abs(e);
  if constexpr (form == Loss::Truncated) {
    const vi easy = size <= splat(k.c);
    if (none(~easy)) return {vf{}, vf{}};  // most of a response: no exponential for it
    const vf kept = select(easy, vf{}, e);
    const vf part = factor * fast_exp((2.0f * k.a) * y) * kept;
    return {part * kept, part + part};
  } else if constexpr (form == Loss::Focal) {
    const vf part = factor * size * e;
    return {part * e, 3.0f * part};
  } else if constexpr (form == Loss::Square) {
    const vf part = factor * e;
    return {part * e, part + part};
  } else {
    // s = 1/(1 + t), t = exp(a(c − l)); d/dp [e²·s] = e·s·(2 + a·l·t·s), l = |e| or e
    const vf l = form == Loss::ShrinkageModified ? size : e;
    const vf t = fast_exp(k.a * (k.c - l));
    const vf s = 1.0f / (1.0f + t);
    const vf base = factor * fast_exp(y) * (e * s);
    return {base * e, base * (2.0f + (k.a * l) * (t * s))};
  }
}

template <Loss form, bool weighted>
FT_INLINE Both vector_at(const RegressionLossArgs& args, const float* p, const float* y, const float* w) {
  const vf factor = weighted ? load(w) * args.scale : splat(args.scale);
  return loss_at<form>(args.params, load(p), load(y), factor);
}

// The last positions, fewer than a vector: read from zeros behind them, where every loss is 0.
template <Loss form, bool weighted>
Both tail_at(const RegressionLossArgs& args, int64_t i, int64_t count) {
  float p[FT_LANES] = {}, y[FT_LANES] = {}, w[FT_LANES] = {};
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  std::memcpy(p, args.prediction + i, bytes);
  std::memcpy(y, args.target + i, bytes);
  if (weighted) std::memcpy(w, args.weight + i, bytes);
  const Both at = vector_at<form, weighted>(args, p, y, w);
  std::memcpy(args.grad + i, &at.grad, bytes);
  if (!args.reduced) std::memcpy(args.value + i, &at.value, bytes);
  return at;
}

template <Loss form, bool weighted, bool reduced>
double run_block(const RegressionLossArgs& all, int64_t begin, int64_t end) {
  const RegressionLossArgs args = all;  // a copy: no store through a float pointer can change it
  double total = 0;
  for (int64_t first = begin; first < end; first += kChunk) {
    const int64_t last = end - first < kChunk ? end : first + kChunk;
    vf partial = {};
    int64_t i = first;
    for (; i + FT_LANES <= last; i += FT_LANES) {
      const float* weight = weighted ? args.weight + i : nullptr;
      const Both at = vector_at<form, weighted>(args, args.prediction + i, args.target + i, weight);
      store(args.grad + i, at.grad);
      if (!reduced) store(args.value + i, at.value);
      partial += at.value;
    }
    if (i < last) partial += tail_at<form, weighted>(args, i, last - i).value;
    if (reduced) total += sum(partial);
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
      const int64_t stop = end < args.n ? end : args.n;
      sums[b - first] = args.reduced ? run_block<form, weighted, true>(args, b * kBlock, stop)
                                     : run_block<form, weighted, false>(args, b * kBlock, stop);
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
