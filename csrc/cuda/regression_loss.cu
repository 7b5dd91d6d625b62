// Value and gradient of a regression loss on the GPU: one pass, then a sum of the block sums.
//
// The sums run in float64 and in a fixed order: two runs give the same bits.
#include "cuda/api.h"
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

__global__ void loss_and_gradient(RegressionLossArgs args, double* partial) {
  double total = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < args.n; i += stride) {
    const ValueGrad at = regression_loss_at(args.params, args.prediction[i], args.target[i]);
    const float weight = args.weight != nullptr ? args.weight[i] * args.scale : args.scale;
    args.grad[i] = at.grad * weight;
    if (!args.reduced) args.value[i] = at.value * weight;
    total += static_cast<double>(at.value * weight);
  }
  if (!args.reduced) return;
  total = block_sum(total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

__global__ void sum_of_blocks(const double* partial, int blocks, float* value) {
  double total = 0;
  for (int i = threadIdx.x; i < blocks; i += kThreads) total += partial[i];
  total = block_sum(total);
  if (threadIdx.x == 0) *value = static_cast<float>(total);
}

}  // namespace

int regression_loss_cuda(const RegressionLossArgs& args, double* partial, int blocks, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  loss_and_gradient<<<blocks, kThreads, 0, queue>>>(args, partial);
  if (args.reduced) sum_of_blocks<<<1, kThreads, 0, queue>>>(partial, blocks, args.value);
  return static_cast<int>(cudaGetLastError());
}

const char* cuda_error_text(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

int cuda_set_device(int device) { return static_cast<int>(cudaSetDevice(device)); }

}  // namespace ft
