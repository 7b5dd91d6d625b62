// A whole convolution regression in one launch: forward, loss, adjoint and update, over and over, on blocks that all
// run at once and never leave. Maps and weights stay in shared memory from the first iteration to the last.
//
// The weight (C, kh, kw) is cut into tiles of 5 x 8 taps of one channel. A block owns some tiles, with their moments,
// and the maps of their channels. An iteration is
//   1. response: each block's taps over all positions, into its own slice of `partial`       - grid barrier -
//   2. loss: each block sums all slices over its share of the positions, in one order, and writes the gradient of the
//      loss there and four sums                                                               - grid barrier -
//   3. update: each block reads the whole gradient, correlates its maps with it, and steps its own taps.
// Nothing is added by atomics: two runs give the same bits.
//
// Why sums in place and no spectra: for 64 x 100 x 72 and k 20 x 8, both correlations are 108 million multiply-adds,
// 3.6 us at 60 TFLOP/s and about 5.5 us with the padding of the tiles. Tiles of spectra with transforms as small
// matrix products need 12 million, but four barriers of about 1.2 us instead of two and transforms on few blocks.
// Tensor cores at three TF32 products per product would use half of each product (a band of 8 in 16), 25 T/s of
// useful multiply-adds: no more than the plain units give.
#include "cuda/api.h"
#include "cuda/conv_passes.h"
#include "cuda/device.h"

namespace ft {
namespace {

constexpr int kSums = 4;  // loss, gradient, response, peak

// Maps of the block's channels into shared memory, zeros around them.
__device__ void load_maps(const ConvRunCudaArgs& a, float* maps, int64_t first_channel, int64_t channels) {
  for (int64_t i = 0; i < a.frame_count; ++i) {
    const ConvCudaFrame& f = a.frames[i];
    for (int64_t at = threadIdx.x; at < channels * f.x_rows * f.x_stride; at += kConvThreads) {
      const int64_t column = at % f.x_stride, row = at / f.x_stride % f.x_rows;
      const int64_t channel = first_channel + at / (f.x_stride * f.x_rows);
      const bool inside = column < f.width && row < f.height;
      maps[f.x + at] = inside ? f.features[(channel * f.height + row) * f.width + column] : 0.0f;
    }
  }
}

// What a tap of the block is in an array of the shape of the weight; -1 where the tile hangs over the kernel.
__device__ int64_t tap_at(const ConvRunCudaArgs& a, int64_t first_tile, int64_t own) {
  const Tile tile = tile_at(a, first_tile + own / kConvTaps);
  const int64_t row = tile.row + own % kConvTaps / kConvTapColumns, column = tile.column + own % kConvTapColumns;
  if (row >= a.kernel_h || column >= a.kernel_w) return -1;
  return (tile.channel * a.kernel_h + row) * a.kernel_w + column;
}

__device__ __forceinline__ double warp_sum(double v) {
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

__device__ __forceinline__ double warp_max(double v) {
  for (int d = 16; d > 0; d /= 2) {
    const double other = __shfl_xor_sync(0xffffffffu, v, d);
    v = other > v || other != other ? other : v;
  }
  return v;
}

constexpr double kLowest = -1.7976931348623157e308;

// Each warp q < kSums folds column q of `rows` rows of kSums doubles, always in the same order.
template <class Read>
__device__ void fold(int64_t rows, Read read, double* out) {
  const int which = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (which < kSums) {
    double all = which == kSums - 1 ? kLowest : 0.0;
    for (int64_t row = lane; row < rows; row += 32) {
      const double one = read(row * kSums + which);
      all = which != kSums - 1 ? all + one : one > all || one != one ? one : all;
    }
    all = which == kSums - 1 ? warp_max(all) : warp_sum(all);
    if (lane == 0) out[which] = all;
  }
  __syncthreads();
}

// One float4 of positions: the loss there, its gradient, and what it adds to the sums.
__device__ void measure(const ConvRunCudaArgs& a, int64_t at, const float4& response, float bias, double* sums) {
  int64_t n = 0;
  while (n + 1 < a.frame_count && at >= a.frames[n + 1].first) ++n;
  const ConvCudaFrame& f = a.frames[n];
  const int64_t row = (at - f.first) / f.columns, column = (at - f.first) % f.columns;
  const float r[4] = {response.x, response.y, response.z, response.w};
  float grad[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    grad[k] = 0;
    if (row >= f.out_h || column + k >= f.out_w) continue;
    const float p = r[k] + bias;
    const ValueGrad here = regression_loss_at(a.loss, p, f.target[row * f.out_w + column + k]);
    grad[k] = here.grad;
    sums[0] += here.value;
    sums[1] += here.grad;
    sums[2] += p;
    sums[3] = p > sums[3] || p != p ? p : sums[3];
  }
  __stcg(reinterpret_cast<float4*>(a.error + at), make_float4(grad[0], grad[1], grad[2], grad[3]));
}

// The loss over the block's share of the positions: as many threads as there are float4s of them sum a slice of the
// blocks' partial responses each, then one slice's threads sum the slices.
__device__ void share_of_loss(const ConvRunCudaArgs& a, float bias) {
  __shared__ float4 slices[kConvThreads];
  __shared__ double sums[kConvThreads * kSums];
  const int64_t all = a.positions / 4;
  const int64_t begin = all * blockIdx.x / gridDim.x, end = all * (blockIdx.x + 1) / gridDim.x;
  const int width = static_cast<int>(end - begin < kConvThreads ? end - begin : kConvThreads);
  const int tasks = width > 0 ? kConvThreads / width : 0;
  const int column = width > 0 ? threadIdx.x % width : 0, slice = width > 0 ? threadIdx.x / width : 1;
  double own[kSums] = {0, 0, 0, kLowest};
  for (int64_t group = begin; group < end; group += width) {
    const int64_t at = 4 * (group + column);
    const bool busy = slice < tasks && group + column < end;
    float4 total = make_float4(0, 0, 0, 0);
    if (busy) {
#pragma unroll 4
      for (int64_t b = slice; b < gridDim.x; b += tasks) {
        const float4 one = __ldcg(reinterpret_cast<const float4*>(a.partial + b * a.positions + at));
        total.x += one.x;
        total.y += one.y;
        total.z += one.z;
        total.w += one.w;
      }
    }
    slices[threadIdx.x] = total;
    __syncthreads();
    if (busy && slice == 0) {
      for (int s = 1; s < tasks; ++s) {
        const float4 one = slices[s * width + column];
        total.x += one.x;
        total.y += one.y;
        total.z += one.z;
        total.w += one.w;
      }
      measure(a, at, total, bias, own);
    }
    __syncthreads();
  }
#pragma unroll
  for (int q = 0; q < kSums; ++q) sums[threadIdx.x * kSums + q] = own[q];
  __syncthreads();
  fold(kConvThreads, [&](int64_t i) { return sums[i]; }, a.sums + blockIdx.x * kSums);
}

// The squares of the block's taps, summed for the whole grid to see after the next grid barrier.
__device__ void publish_squares(const ConvRunCudaArgs& a, const float* weight, int64_t taps) {
  __shared__ double warps[kWarps];
  double own = 0;
  for (int64_t i = threadIdx.x; i < taps; i += kConvThreads) own += static_cast<double>(weight[i]) * weight[i];
  own = warp_sum(own);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = own;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double all = 0;
  for (int w = 0; w < kWarps; ++w) all += warps[w];
  a.squares[blockIdx.x] = all;
}

// Whether the objective, loss and decay, still falls: by a thousandth within `patience` steps. Every block reads the
// same sums in the same order and comes to the same answer.
struct Progress {
  double mark = 1.7976931348623157e308;
  int64_t since = 0;

  __device__ bool ended(const ConvRunCudaArgs& a, int64_t step, double loss) {
    __shared__ double total;
    if (threadIdx.x < 32) {
      double all = 0;
      for (int64_t b = threadIdx.x; b < gridDim.x; b += 32) all += __ldcg(a.squares + b);
      all = warp_sum(all);
      if (threadIdx.x == 0) total = all;
    }
    __syncthreads();
    const double objective = loss + a.weight_decay * total;
    if (objective < 0.999 * mark) mark = objective, since = step;
    return step - since >= a.patience;
  }
};

__device__ void all_adjoints(const ConvRunCudaArgs& a, const float* maps, float* error, int64_t first_tile,
                             int64_t tiles, int64_t first_channel, float* parts) {
  for (int64_t i = threadIdx.x; i < tiles * kWarps * kConvTaps; i += kConvThreads) parts[i] = 0;
  for (int64_t n = 0; n < a.frame_count; ++n) {
    const ConvCudaFrame& f = a.frames[n];
    __syncthreads();  // the frame before is done with
    const int64_t fours = f.columns / 4;
    for (int64_t i = threadIdx.x; i < f.rows * fours; i += kConvThreads) {
      const float4 four = __ldcg(reinterpret_cast<const float4*>(a.error + f.first) + i);
      *reinterpret_cast<float4*>(error + i / fours * a.error_stride + i % fours * 4) = four;
    }
    __syncthreads();
    adjoint(a, f, maps, error, first_tile, tiles, first_channel, parts);
  }
  __syncthreads();
}

// torch.optim.Adam's update (betas 0.9 and 0.999, eps 1e-8) in its order of operations, or plain descent.
struct Update {
  bool adam;
  float step_size, root_correction;

  __device__ float operator()(float weight, float gradient, float& mean, float& square) const {
    if (!adam) return weight - step_size * gradient;
    mean += (gradient - mean) * static_cast<float>(1.0 - 0.9);
    square = square * 0.999f + gradient * gradient * static_cast<float>(1.0 - 0.999);
    return weight - step_size * mean / (sqrtf(square) / root_correction + 1e-8f);
  }
};

}  // namespace
}  // namespace ft

extern "C" __global__ void __launch_bounds__(ft::kConvThreads, 1)
    ft_conv_regression_run(const __grid_constant__ ft::ConvRunCudaArgs a) {
  using namespace ft;
  FT_DYNAMIC_SHARED(memory);
  __shared__ double totals[kSums];
  float* const maps = reinterpret_cast<float*>(memory);
  const int64_t first_tile = a.tiles * blockIdx.x / gridDim.x;
  const int64_t tiles = a.tiles * (blockIdx.x + 1) / gridDim.x - first_tile, taps = tiles * kConvTaps;
  const int64_t first_channel = tile_at(a, first_tile).channel;
  const int64_t weights = a.channels * a.kernel_h * a.kernel_w;
  float* const weight = maps + a.taps_at;
  float* const mean = weight + taps;
  float* const square = mean + taps;
  float* const parts = maps + a.parts_at;
  load_maps(a, maps, first_channel, tile_at(a, first_tile + tiles - 1).channel - first_channel + 1);
  for (int64_t i = threadIdx.x; i < taps; i += kConvThreads) {
    const int64_t at = tap_at(a, first_tile, i);
    weight[i] = at < 0 ? 0.0f : a.weight[at];
    mean[i] = at < 0 || a.adam == 0 ? 0.0f : a.moments[at];
    square[i] = at < 0 || a.adam == 0 ? 0.0f : a.moments[weights + at];
  }
  __syncthreads();

  // Every block carries the bias along: the same sums give the same bias everywhere.
  float bias = *a.bias, bias_mean = a.adam != 0 ? a.bias_moments[0] : 0.0f;
  float bias_square = a.adam != 0 ? a.bias_moments[1] : 0.0f;
  double first_power = a.first_power, second_power = a.second_power;
  Update update = {a.adam != 0, static_cast<float>(a.learning_rate), 1.0f};
  const float decay = static_cast<float>(2.0 * a.weight_decay);
  if (a.patience > 0) publish_squares(a, weight, taps);
  Progress progress;
  int64_t step = 0, rows = 0;
  bool stalled = false;
  for (;; ++step) {
    if (step == a.steps && a.evaluate == 0) break;
    respond(a, maps, weight, first_tile, tiles, first_channel);
    ft_grid_sync(a.arrived);
    share_of_loss(a, bias);
    ft_grid_sync(a.arrived);
    fold(gridDim.x, [&](int64_t i) { return __ldcg(a.sums + i); }, totals);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      a.history[2 * step] = totals[0];
      a.history[2 * step + 1] = exp(totals[3] - totals[2] / static_cast<double>(a.outputs));
    }
    ++rows;
    if (step == a.steps || (a.tolerance >= 0 && totals[0] < a.tolerance)) break;
    stalled = a.patience > 0 && progress.ended(a, step, totals[0]);
    if (stalled) break;
    Update of_bias = {a.adam != 0, static_cast<float>(a.bias_learning_rate), 1.0f};
    if (a.adam != 0) {
      first_power *= 0.9;
      second_power *= 0.999;
      update.step_size = static_cast<float>(a.learning_rate / (1.0 - first_power));
      update.root_correction = static_cast<float>(sqrt(1.0 - second_power));
      of_bias.step_size = static_cast<float>(a.bias_learning_rate / (1.0 - first_power));
      of_bias.root_correction = update.root_correction;
    }
    bias = of_bias(bias, static_cast<float>(totals[1]), bias_mean, bias_square);
    all_adjoints(a, maps, maps + a.error_at, first_tile, tiles, first_channel, parts);
    for (int64_t i = threadIdx.x; i < taps; i += kConvThreads) {
      if (tap_at(a, first_tile, i) < 0) continue;  // stays 0
      float gradient = decay * weight[i];
      for (int w = 0; w < kWarps; ++w) gradient += parts[(i / kConvTaps * kWarps + w) * kConvTaps + i % kConvTaps];
      weight[i] = update(weight[i], gradient, mean[i], square[i]);
    }
    if (a.patience > 0) publish_squares(a, weight, taps);
    __syncthreads();
  }

  for (int64_t i = threadIdx.x; i < taps; i += kConvThreads) {
    const int64_t at = tap_at(a, first_tile, i);
    if (at < 0) continue;
    a.weight[at] = weight[i];
    if (a.adam == 0) continue;
    a.moments[at] = mean[i];
    a.moments[weights + at] = square[i];
  }
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  *a.bias = bias;
  if (a.adam != 0) a.bias_moments[0] = bias_mean, a.bias_moments[1] = bias_square;
  a.counts[0] = step;
  a.counts[1] = rows;
  a.counts[2] = stalled ? 1 : 0;
}
