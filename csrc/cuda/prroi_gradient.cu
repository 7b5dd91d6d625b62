// Gradients of precise RoI pooling on the GPU, in features and in coordinates.
//
// In features: a block owns 8 x 8 cells of 16 channels and takes one RoI after the other that meets them, so that
// every cell is summed in the order of the RoIs. In coordinates: a block takes one RoI and a share of the channels;
// its threads own columns of bins, as in the forward pass, with the derivatives of both weights beside them.
#include "cuda/api.h"
#include "cuda/device.h"
#include "cuda/prroi_args.h"
#include "cuda/prroi_bins.h"

namespace ft {
namespace {

constexpr int kCells = kPoolCells, kEdges = 4;
constexpr int kThreadChannels = kPoolChannels * kCells * kCells / kPoolThreads;
constexpr int kTaps = 3;

// Bins whose weight of a cell is not 0, perhaps one more at either end.
struct BinRange {
  int first, last;
};

__device__ BinRange bins_at(double low, double high, int64_t bins, double cell) {
  const double per_cell = static_cast<double>(bins) / (high - low), top = static_cast<double>(bins);
  const double first = (cell - 1.0 - low) * per_cell - 1.0, last = (cell + 1.0 - low) * per_cell + 1.0;
  return {static_cast<int>(clamp_to(first, 0.0, top)), static_cast<int>(clamp_to(last, 0.0, top))};
}

__device__ bool meets(const CellRange& cells, int64_t first) {
  return cells.count > 0 && cells.first < first + kCells && cells.first + cells.count > first;
}

// Weights of one axis of a RoI at the kCells cells from `first` on: (kCells, bins), and which bins matter.
__device__ void fill_axis(double low, double high, int64_t bins, int64_t size, int64_t first, float* weights,
                          BinRange* ranges) {
  for (int64_t i = threadIdx.x; i < kCells * bins; i += kPoolThreads) {
    const Bin bin = bin_of(low, high, i % bins, bins, size);
    const int64_t t = first + i / bins - bin.first;
    weights[i] = t >= 0 ? bin.weight(static_cast<int>(t)) : 0.0f;
  }
  if (threadIdx.x < kCells) ranges[threadIdx.x] = bins_at(low, high, bins, static_cast<double>(first + threadIdx.x));
}

// Weights of the bins p0 ... and their derivatives in the RoI's two edges along y, (rows, kPoolBinRows) each.
__device__ void fill_derivatives(const Roi& roi, const PrroiRois& r, int64_t p0, const CellRange& rows, float* tables) {
  const int64_t size = rows.count * kPoolBinRows;
  for (int64_t i = threadIdx.x; i < size; i += kPoolThreads) {
    const int64_t p = p0 + i % kPoolBinRows, row = rows.first + i / kPoolBinRows;
    BinWeight w = {0, 0, 0};
    if (p < r.bins_y) w = bin_weight(roi.y1, roi.y2, p, r.bins_y, row);
    tables[i] = static_cast<float>(w.mean);
    tables[size + i] = static_cast<float>(w.by_low);
    tables[2 * size + i] = static_cast<float>(w.by_high);
  }
}

struct Edges {
  float x1, x2, y1, y2;
};

// What one column of bins of one channel adds to the derivatives in the edges. `g` are the gradients of its bins.
__device__ __forceinline__ void column_edges(const PrroiRoisGradientArgs& a, const Roi& roi, int64_t q, int64_t c,
                                             const CellRange& rows, const float* tables, const float* g, Edges& sum) {
  const PrroiRois& r = a.rois;
  const CellRange columns = cells_of_bins(roi.x1, roi.x2, q, 1, r.bins_x, r.width);
  const float* map = a.features + roi.image * a.stride_n + c * a.stride_c + rows.first * a.stride_y;
  const int64_t size = rows.count * kPoolBinRows;
  for (int64_t t0 = 0; t0 < columns.count; t0 += kTaps) {
    float mean[kTaps], by_low[kTaps], by_high[kTaps];
    int64_t at[kTaps];
#pragma unroll
    for (int t = 0; t < kTaps; ++t) {
      const bool inside = t0 + t < columns.count;
      const int64_t column = columns.first + (inside ? t0 + t : columns.count - 1);
      const BinWeight w = bin_weight(roi.x1, roi.x2, q, r.bins_x, column);
      mean[t] = inside ? static_cast<float>(w.mean) : 0.0f;
      by_low[t] = inside ? static_cast<float>(w.by_low) : 0.0f;
      by_high[t] = inside ? static_cast<float>(w.by_high) : 0.0f;
      at[t] = column * a.stride_x;
    }
    for (int64_t i = 0; i < rows.count; ++i) {
      float along = 0, low = 0, high = 0, here = 0, here_low = 0, here_high = 0;
#pragma unroll
      for (int p = 0; p < kPoolBinRows; ++p) {
        along += g[p] * tables[i * kPoolBinRows + p];
        low += g[p] * tables[size + i * kPoolBinRows + p];
        high += g[p] * tables[2 * size + i * kPoolBinRows + p];
      }
#pragma unroll
      for (int t = 0; t < kTaps; ++t) {
        const float x = map[at[t] + i * a.stride_y];
        here += mean[t] * x;
        here_low += by_low[t] * x;
        here_high += by_high[t] * x;
      }
      sum.x1 += along * here_low;
      sum.x2 += along * here_high;
      sum.y1 += low * here;
      sum.y2 += high * here;
    }
  }
}

}  // namespace
}  // namespace ft

extern "C" __global__ void __launch_bounds__(ft::kPoolThreads, 3)
    ft_prroi_pool_features_gradient(const __grid_constant__ ft::PrroiFeaturesGradientCudaArgs args) {
  using namespace ft;
  FT_DYNAMIC_SHARED(memory);
  __shared__ bool here[kPoolThreads];
  __shared__ BinRange range_y[kCells], range_x[kCells];
  const PrroiFeaturesGradientArgs& a = args.gradient;
  const PrroiRois& r = a.rois;
  const int64_t across = (r.width + kCells - 1) / kCells, bins = r.bins_y * r.bins_x;
  const int64_t row = blockIdx.x / across * kCells, column = blockIdx.x % across * kCells;
  const int64_t channel = blockIdx.y * kPoolChannels, left = a.channels - channel;
  const int64_t channels = left < kPoolChannels ? left : kPoolChannels;
  const int cell = threadIdx.x % (kCells * kCells), y = cell / kCells, x = cell % kCells;
  const int own = threadIdx.x / (kCells * kCells) * kThreadChannels;
  float* const weight_y = reinterpret_cast<float*>(memory);
  float* const weight_x = weight_y + kCells * r.bins_y;
  float* const grad = weight_x + kCells * r.bins_x;
  float sum[kThreadChannels] = {};
  for (int64_t first = 0; first < r.count; first += kPoolThreads) {
    const int64_t mine = first + threadIdx.x;
    bool meeting = false;
    if (mine < r.count) {
      const Roi roi = read_roi(r, mine);
      meeting = roi.kind == RoiKind::Proper && belongs(roi, blockIdx.z) &&
                meets(cells_of(roi.y1, roi.y2, r.height), row) && meets(cells_of(roi.x1, roi.x2, r.width), column);
    }
    __syncthreads();
    here[threadIdx.x] = meeting;
    __syncthreads();
    for (int64_t k = first; k < r.count && k < first + kPoolThreads; ++k) {
      if (!here[k - first]) continue;
      const Roi roi = read_roi(r, k);
      fill_axis(roi.y1, roi.y2, r.bins_y, r.height, row, weight_y, range_y);
      fill_axis(roi.x1, roi.x2, r.bins_x, r.width, column, weight_x, range_x);
      const float* from = a.grad + (k * a.channels + channel) * bins;
      for (int64_t i = threadIdx.x; i < channels * bins; i += kPoolThreads) grad[i] = from[i];
      __syncthreads();
      for (int p = range_y[y].first; p < range_y[y].last; ++p) {
        const float w = weight_y[y * r.bins_y + p];
        for (int q = range_x[x].first; q < range_x[x].last; ++q) {
          const float both = w * weight_x[x * r.bins_x + q];
#pragma unroll
          for (int n = 0; n < kThreadChannels; ++n) {
            if (own + n < channels) sum[n] += both * grad[(own + n) * bins + p * r.bins_x + q];
          }
        }
      }
      __syncthreads();
    }
  }
  if (row + y >= r.height || column + x >= r.width) return;
  for (int n = 0; n < kThreadChannels; ++n) {
    if (own + n >= channels) return;
    const int64_t plane = blockIdx.z * a.channels + channel + own + n;
    a.out[(plane * r.height + row + y) * r.width + column + x] = sum[n];
  }
}

extern "C" __global__ void __launch_bounds__(ft::kPoolThreads)
    ft_prroi_pool_rois_gradient(const __grid_constant__ ft::PrroiRoisGradientCudaArgs args) {
  using namespace ft;
  FT_DYNAMIC_SHARED(memory);
  __shared__ double sums[kEdges][kPoolThreads];
  const PrroiRoisGradientArgs& a = args.gradient;
  const PrroiRois& r = a.rois;
  const int64_t k = blockIdx.x, channel = blockIdx.y * args.group, bins = r.bins_y * r.bins_x;
  const int64_t end = channel + args.group < a.channels ? channel + args.group : a.channels;
  float* const tables = reinterpret_cast<float*>(memory);
  const Roi roi = read_roi(r, k);
  double own[kEdges] = {};
  for (int64_t p0 = 0; roi.kind == RoiKind::Proper && p0 < r.bins_y; p0 += kPoolBinRows) {
    const int64_t here = r.bins_y - p0 < kPoolBinRows ? r.bins_y - p0 : kPoolBinRows;
    const CellRange rows = cells_of_bins(roi.y1, roi.y2, p0, here, r.bins_y, r.height);
    __syncthreads();
    fill_derivatives(roi, r, p0, rows, tables);
    __syncthreads();
    for (int64_t task = threadIdx.x; task < r.bins_x * (end - channel); task += kPoolThreads) {
      const int64_t q = task % r.bins_x, c = channel + task / r.bins_x;
      float g[kPoolBinRows];
#pragma unroll
      for (int p = 0; p < kPoolBinRows; ++p) {
        g[p] = p < here ? a.grad[(k * a.channels + c) * bins + (p0 + p) * r.bins_x + q] : 0.0f;
      }
      Edges sum = {0, 0, 0, 0};
      column_edges(a, roi, q, c, rows, tables, g, sum);
      own[0] += sum.x1;
      own[1] += sum.y1;
      own[2] += sum.x2;
      own[3] += sum.y2;
    }
  }
#pragma unroll
  for (int e = 0; e < kEdges; ++e) sums[e][threadIdx.x] = own[e];
  for (int half = kPoolThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
#pragma unroll
    for (int e = 0; e < kEdges; ++e) sums[e][threadIdx.x] += sums[e][threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  double* const out = a.out + (blockIdx.y * r.count + k) * 5;
  out[0] = 0;
  for (int e = 0; e < kEdges; ++e) out[1 + e] = sums[e][0] * r.scale;
}
