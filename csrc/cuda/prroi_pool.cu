// Precise RoI pooling on the GPU: forward, and the gradients in features and in coordinates. No atomics on results:
// two runs give the same bits.
//
// Forward. What is written bounds it (961 x 128 x 8 x 8 floats: 31 MB, 7 to 11 us), so the rest must stay below. The
// sum is separable, and a thread owns one column of bins of four channels: per row of the map three or four taps give
// the row's mean over its bins, and 8 products spread it over the bins along y. 32 lanes are 8 columns x 4 channels,
// whose stores fill sectors of 32 bytes. Maps are read in either memory format; shared memory holds them with a
// thread's four channels side by side, one load per tap, and RoIs of one block, neighbours as a rule, share them.
#include "cuda/api.h"
#include "cuda/device.h"
#include "cuda/prroi_args.h"
#include "cuda/prroi_bins.h"

namespace ft {
namespace {

constexpr int kTaps = 3;  // columns of cells at once: all of a bin up to one cell wide

struct PoolBlock {
  int64_t first_roi, last_roi, channel, channels;
  int image;
};

__device__ PoolBlock pool_block(const PrroiPoolCudaArgs& a) {
  const int64_t count = a.pool.rois.count, channel = blockIdx.y * a.group, left = a.pool.channels - channel;
  return {count * blockIdx.x / gridDim.x, count * (blockIdx.x + 1) / gridDim.x, channel,
          left < a.group ? left : a.group, static_cast<int>(blockIdx.z)};
}

// Rows of the map that the block's RoIs meet.
__device__ CellRange rows_of_block(const PrroiPoolCudaArgs& a, const PoolBlock& block) {
  __shared__ int low, high;
  if (threadIdx.x == 0) {
    low = static_cast<int>(a.pool.rois.height);
    high = 0;
  }
  __syncthreads();
  for (int64_t k = block.first_roi + threadIdx.x; k < block.last_roi; k += kPoolThreads) {
    const Roi roi = read_roi(a.pool.rois, k);
    if (roi.kind != RoiKind::Proper || !belongs(roi, block.image)) continue;
    const CellRange rows = cells_of(roi.y1, roi.y2, a.pool.rois.height);
    if (rows.count == 0) continue;
    atomicMin(&low, static_cast<int>(rows.first));
    atomicMax(&high, static_cast<int>(rows.first + rows.count));
  }
  __syncthreads();
  return {low, high > low ? high - low : 0};
}

// Cells between two groups of four channels of the slab: 4 float4s on, so that 4 columns of 2 groups meet 32 banks.
__device__ __forceinline__ int plane_cells(int64_t cells) { return static_cast<int>((cells + 3) / 8 * 8 + 4); }

// Four channels side by side, those too many 0.
__device__ void load_slab(const PrroiPoolArgs& p, const PoolBlock& block, const CellRange& rows, int plane,
                          float4* slab) {
  const float* from = p.features + block.image * p.stride_n + block.channel * p.stride_c + rows.first * p.stride_y;
  const int width = static_cast<int>(p.rois.width), cells = static_cast<int>(rows.count) * width;
  const int channels = static_cast<int>(block.channels), groups = (channels + 3) / 4;
  for (int i = threadIdx.x; i < cells * groups; i += kPoolThreads) {
    const int group = i / cells, at = i % cells;
    const float* cell = from + at / width * p.stride_y + at % width * p.stride_x + 4 * group * p.stride_c;
    const int left = channels - 4 * group;
    slab[group * plane + at] =
        make_float4(cell[0], left > 1 ? cell[p.stride_c] : 0.0f, left > 2 ? cell[2 * p.stride_c] : 0.0f,
                    left > 3 ? cell[3 * p.stride_c] : 0.0f);
  }
}

// Weights of bins p0 ... along y, a row of kPoolBinRows for each row of the map from rows.first on.
__device__ __forceinline__ void fill_rows(const Roi& roi, const PrroiRois& r, int64_t p0, const CellRange& rows,
                                          float* table) {
  const int lane = threadIdx.x % 32;
  __syncwarp();
  for (int64_t i = lane; i < rows.count * kPoolBinRows; i += 32) table[i] = 0;
  __syncwarp();
  const int64_t p = p0 + lane % kPoolBinRows;
  if (p < r.bins_y) {
    const Bin bin = bin_of(roi.y1, roi.y2, p, r.bins_y, r.height);
    for (int t = lane / kPoolBinRows; t < bin.count; t += 32 / kPoolBinRows) {
      table[(bin.first + t - rows.first) * kPoolBinRows + p - p0] = bin.weight(t);
    }
  }
  __syncwarp();
}

__device__ __forceinline__ void load_eight(const float* from, float (&to)[kPoolBinRows]) {
  const float4 a = *reinterpret_cast<const float4*>(from), b = *reinterpret_cast<const float4*>(from + 4);
  to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
  to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
}

// Where four channels are read from: the slab, or the map itself. Calls give the cell of a row and a column.
struct InSlab {
  const float4* first;  // the RoI's first row
  int width;

  __device__ __forceinline__ float4 operator()(int row, int column) const { return first[row * width + column]; }
};

struct InMap {
  const float* first;
  int channels;
  int64_t stride_c, stride_y, stride_x;

  __device__ __forceinline__ float4 operator()(int row, int column) const {
    const float* cell = first + row * stride_y + column * stride_x;
    return make_float4(cell[0], channels > 1 ? cell[stride_c] : 0.0f, channels > 2 ? cell[2 * stride_c] : 0.0f,
                       channels > 3 ? cell[3 * stride_c] : 0.0f);
  }
};

// One column of bins, kPoolBinRows of them, of four channels.
template <class Read>
__device__ __forceinline__ void pool_column(Read read, const Bin& bin, int rows, const float* table,
                                            float (&sum)[kPoolLaneChannels][kPoolBinRows]) {
  for (int t0 = 0; t0 < bin.count; t0 += kTaps) {
    float w[kTaps];
    int column[kTaps];
#pragma unroll
    for (int t = 0; t < kTaps; ++t) {
      w[t] = bin.weight(t0 + t);
      // A tap beyond the last weighs 0 and reads the last.
      column[t] = bin.first + (t0 + t < bin.count ? t0 + t : bin.count - 1);
    }
    for (int i = 0; i < rows; ++i) {
      float y[kPoolBinRows], mean[kPoolLaneChannels] = {};
      load_eight(table + i * kPoolBinRows, y);
#pragma unroll
      for (int t = 0; t < kTaps; ++t) {
        const float4 cell = read(i, column[t]);
        mean[0] += w[t] * cell.x;
        mean[1] += w[t] * cell.y;
        mean[2] += w[t] * cell.z;
        mean[3] += w[t] * cell.w;
      }
#pragma unroll
      for (int c = 0; c < kPoolLaneChannels; ++c) {
#pragma unroll
        for (int p = 0; p < kPoolBinRows; ++p) sum[c][p] += y[p] * mean[c];
      }
    }
  }
}

// One RoI by one warp; `reader(group, row)` reads four channels from a row of the map on.
template <class Reader>
__device__ void pool_roi(const PrroiPoolCudaArgs& a, const PoolBlock& block, int64_t k, const Roi& roi, Reader reader,
                         float* table) {
  const PrroiRois& r = a.pool.rois;
  const int lane = threadIdx.x % 32, channels = static_cast<int>(block.channels);
  const int across = static_cast<int>(r.bins_x), bins = static_cast<int>(r.bins_y) * across;
  float* const out = a.pool.out + (k * a.pool.channels + block.channel) * bins;
  if (roi.kind != RoiKind::Proper) {
    const float value = roi.kind == RoiKind::Empty ? 0.0f : nanf("");
    for (int i = lane; i < channels * bins; i += 32) out[i] = value;
    return;
  }
  for (int p0 = 0; p0 < r.bins_y; p0 += kPoolBinRows) {
    const int left = static_cast<int>(r.bins_y) - p0, here = left < kPoolBinRows ? left : kPoolBinRows;
    const CellRange rows = cells_of_bins(roi.y1, roi.y2, p0, here, r.bins_y, r.height);
    fill_rows(roi, r, p0, rows, table);
    for (int task = lane; task < across * ((channels + 3) / 4); task += 32) {
      const int q = task % across, group = task / across;
      const Bin bin = bin_of(roi.x1, roi.x2, q, r.bins_x, r.width);
      float sum[kPoolLaneChannels][kPoolBinRows] = {};
      pool_column(reader(group, rows.first), bin, static_cast<int>(rows.count), table, sum);
      float* const to = out + 4 * group * bins + p0 * across + q;
#pragma unroll
      for (int c = 0; c < kPoolLaneChannels; ++c) {
#pragma unroll
        for (int p = 0; p < kPoolBinRows; ++p) {
          if (p < here && 4 * group + c < channels) to[c * bins + p * across] = sum[c][p];
        }
      }
    }
  }
}

}  // namespace
}  // namespace ft

extern "C" __global__ void __launch_bounds__(ft::kPoolThreads)
    ft_prroi_pool(const __grid_constant__ ft::PrroiPoolCudaArgs a) {
  using namespace ft;
  FT_DYNAMIC_SHARED(memory);
  const PrroiPoolArgs& p = a.pool;
  const PoolBlock block = pool_block(a);
  const CellRange rows = rows_of_block(a, block);
  const int warp = threadIdx.x / 32, width = static_cast<int>(p.rois.width);
  const int plane = plane_cells(rows.count * width);
  float* const tables = reinterpret_cast<float*>(memory);
  float* const table = tables + warp * p.rois.height * kPoolBinRows;
  float4* const slab = reinterpret_cast<float4*>(tables + kPoolWarps * p.rois.height * kPoolBinRows);
  const bool fits = plane * a.group <= a.slab_floats;
  if (fits) load_slab(p, block, rows, plane, slab);
  __syncthreads();
  for (int64_t k = block.first_roi + warp; k < block.last_roi; k += kPoolWarps) {
    const Roi roi = read_roi(p.rois, k);
    if (!belongs(roi, block.image)) continue;
    if (fits) {
      const auto reader = [&](int group, int64_t row) {
        return InSlab{slab + group * plane + static_cast<int>(row - rows.first) * width, width};
      };
      pool_roi(a, block, k, roi, reader, table);
    } else {
      const auto reader = [&](int group, int64_t row) {
        const int64_t channel = block.channel + 4 * group;
        const float* from = p.features + block.image * p.stride_n + channel * p.stride_c + row * p.stride_y;
        return InMap{from, static_cast<int>(block.channels) - 4 * group, p.stride_c, p.stride_y, p.stride_x};
      };
      pool_roi(a, block, k, roi, reader, table);
    }
  }
}
