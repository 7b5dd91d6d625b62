// The two passes of an iteration of conv_regression.cu over a block's tiles of taps: response and adjoint.
#pragma once

#include "cuda/conv_regression.h"

namespace ft {
namespace {

constexpr int kWarps = kConvThreads / 32;
constexpr int kReach = kConvRows + kConvTapRows - 1;  // rows of a map that a thread's positions and taps meet

struct Tile {
  int64_t channel;
  int row, column;  // of its first tap
};

__device__ Tile tile_at(const ConvRunCudaArgs& a, int64_t index) {
  const int64_t down = (a.kernel_h + kConvTapRows - 1) / kConvTapRows;
  const int64_t across = (a.kernel_w + kConvTapColumns - 1) / kConvTapColumns;
  const int64_t rest = index % (down * across);
  return {index / (down * across), static_cast<int>(rest % down) * kConvTapRows,
          static_cast<int>(rest / down) * kConvTapColumns};
}

template <int kCount>
__device__ __forceinline__ void load(const float* from, float (&to)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    const float4 four = *reinterpret_cast<const float4*>(from + i);
    to[i] = four.x;
    to[i + 1] = four.y;
    to[i + 2] = four.z;
    to[i + 3] = four.w;
  }
}

// The map under the first position and tap of a thread's share. Neighbouring lanes take neighbouring groups of rows:
// an odd number of rows of an odd number of float4s, they meet different banks.
struct Spot {
  int row, column;
};

__device__ __forceinline__ Spot spot_of(const ConvCudaFrame& f, int task) {
  const int groups = static_cast<int>(f.rows) / kConvRows;
  return {task % groups * kConvRows, task / groups * kConvColumns};
}

__device__ __forceinline__ int spots(const ConvCudaFrame& f) {
  return static_cast<int>(f.rows / kConvRows * (f.columns / kConvColumns));
}

__device__ __forceinline__ const float* map_under(const ConvCudaFrame& f, const float* maps, const Tile& tile,
                                                  int64_t first_channel, const Spot& at) {
  const int64_t row = (tile.channel - first_channel) * f.x_rows + at.row + tile.row;
  return maps + f.x + row * f.x_stride + at.column + tile.column;
}

// The response of the block's taps at every position, into its slice of `partial`.
__device__ void respond(const ConvRunCudaArgs& a, const float* maps, const float* weight, int64_t first_tile,
                        int64_t tiles, int64_t first_channel) {
  float* const mine = a.partial + blockIdx.x * a.positions;
  for (int64_t n = 0; n < a.frame_count; ++n) {
    const ConvCudaFrame& f = a.frames[n];
    for (int task = threadIdx.x; task < spots(f); task += kConvThreads) {
      const Spot at = spot_of(f, task);
      float sum[kConvRows][kConvColumns] = {};
      for (int64_t t = 0; t < tiles; ++t) {
        const float* from = map_under(f, maps, tile_at(a, first_tile + t), first_channel, at);
        const float* taps = weight + t * kConvTaps;
#pragma unroll
        for (int r = 0; r < kReach; ++r) {
          float x[kConvColumns + kConvTapColumns];
          load(from + r * f.x_stride, x);
#pragma unroll
          for (int l = 0; l < kConvRows; ++l) {
            const int p = r - l;
            if (p < 0 || p >= kConvTapRows) continue;
            float w[kConvTapColumns];
            load(taps + p * kConvTapColumns, w);
#pragma unroll
            for (int q = 0; q < kConvTapColumns; ++q) {
#pragma unroll
              for (int k = 0; k < kConvColumns; ++k) sum[l][k] += x[k + q] * w[q];
            }
          }
        }
      }
#pragma unroll
      for (int l = 0; l < kConvRows; ++l) {
        float4* out = reinterpret_cast<float4*>(mine + f.first + (at.row + l) * f.columns + at.column);
        __stcg(out, make_float4(sum[l][0], sum[l][1], sum[l][2], sum[l][3]));
        __stcg(out + 1, make_float4(sum[l][4], sum[l][5], sum[l][6], sum[l][7]));
      }
    }
  }
}

// One step of a sum over the lanes of a warp: of kHave values a lane keeps half and hands the others to its partner.
template <int kHave>
__device__ __forceinline__ void hand_over(float* v, int partner) {
  constexpr int kKeep = (kHave + 1) / 2;
  const bool upper = (threadIdx.x & partner) != 0;
#pragma unroll
  for (int i = 0; i < kKeep; ++i) {
    const float high = i + kKeep < kHave ? v[i + kKeep] : 0.0f;
    const float sent = upper ? v[i] : high, kept = upper ? high : v[i];
    v[i] = kept + __shfl_xor_sync(0xffffffffu, sent, partner);
  }
}

// Adds 40 values over the lanes of a warp: 41 shuffles instead of 200. Two lanes' worth end in each lane.
__device__ __forceinline__ void add_over_warp(float (&v)[kConvTaps], float* to) {
  hand_over<40>(v, 16);
  hand_over<20>(v, 8);
  hand_over<10>(v, 4);
  hand_over<5>(v, 2);
  hand_over<3>(v, 1);
  const int lane = threadIdx.x % 32;
  const int above = (lane & 16 ? 20 : 0) + (lane & 8 ? 10 : 0) + (lane & 4 ? 5 : 0);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int of_three = i + (lane & 1 ? 2 : 0), of_five = of_three + (lane & 2 ? 3 : 0);
    if (of_three < 3 && of_five < 5) to[above + of_five] += v[i];
  }
}

// The gradient of one frame's loss in the block's taps, added to each warp's own sums.
__device__ void adjoint(const ConvRunCudaArgs& a, const ConvCudaFrame& f, const float* maps, const float* error,
                        int64_t first_tile, int64_t tiles, int64_t first_channel, float* parts) {
  for (int64_t t = 0; t < tiles; ++t) {
    const Tile tile = tile_at(a, first_tile + t);
    float sum[kConvTaps] = {};
    for (int task = threadIdx.x; task < spots(f); task += kConvThreads) {
      const Spot at = spot_of(f, task);
      const float* from = map_under(f, maps, tile, first_channel, at);
      float e[kConvRows][kConvColumns];
#pragma unroll
      for (int l = 0; l < kConvRows; ++l) load(error + (at.row + l) * a.error_stride + at.column, e[l]);
#pragma unroll
      for (int r = 0; r < kReach; ++r) {
        float x[kConvColumns + kConvTapColumns];
        load(from + r * f.x_stride, x);
#pragma unroll
        for (int l = 0; l < kConvRows; ++l) {
          const int p = r - l;
          if (p < 0 || p >= kConvTapRows) continue;
#pragma unroll
          for (int q = 0; q < kConvTapColumns; ++q) {
#pragma unroll
            for (int k = 0; k < kConvColumns; ++k) sum[p * kConvTapColumns + q] += x[k + q] * e[l][k];
          }
        }
      }
    }
    __syncwarp();
    add_over_warp(sum, parts + (t * kWarps + threadIdx.x / 32) * kConvTaps);
  }
}

}  // namespace
}  // namespace ft
