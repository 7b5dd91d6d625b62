// Value and gradient of a regression loss on the GPU: one pass, then a sum of the block sums.
//
// The sums run in float64 and in a fixed order: two runs give the same bits.
#include "cuda/api.h"
#include "cuda/device.h"
#include "regression_loss.h"

namespace ft {
namespace {

constexpr int kThreads = 256;

__device__ double block_sum(double mine) {
  __shared__ double sums[kThreads];
  sums[threadIdx.x] = mine;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  return sums[0];
}

}  // namespace
}  // namespace ft

extern "C" __global__ void __launch_bounds__(ft::kThreads) ft_regression_loss(const ft::RegressionLossCudaArgs args) {
  const ft::RegressionLossArgs& a = args.loss;
  double total = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * ft::kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * ft::kThreads + threadIdx.x; i < a.n; i += stride) {
    const ft::ValueGrad at = ft::regression_loss_at(a.params, a.prediction[i], a.target[i]);
    const float weight = a.weight != nullptr ? a.weight[i] * a.scale : a.scale;
    a.grad[i] = at.grad * weight;
    if (!a.reduced) a.value[i] = at.value * weight;
    total += static_cast<double>(at.value * weight);
  }
  if (!a.reduced) return;
  total = ft::block_sum(total);
  if (threadIdx.x == 0) args.partial[blockIdx.x] = total;
}

extern "C" __global__ void __launch_bounds__(ft::kThreads)
    ft_regression_loss_sum(const ft::RegressionLossSumArgs args) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < args.blocks; i += ft::kThreads) total += args.partial[i];
  total = ft::block_sum(total);
  if (threadIdx.x == 0) *args.value = static_cast<float>(total);
}
