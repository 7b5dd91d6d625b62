// conv_regression on the GPU: arguments of the whole optimisation in one launch, and how it is cut up.
#pragma once

#include "regression_loss.h"

namespace ft {

constexpr int kConvThreads = 256;
// A thread's share of a forward or adjoint pass: this many rows and columns of positions ...
constexpr int kConvRows = 3, kConvColumns = 8;
// ... times this many rows and columns of taps of one channel, a tile of taps.
constexpr int kConvTapRows = 5, kConvTapColumns = 8, kConvTaps = kConvTapRows * kConvTapColumns;
constexpr int kConvFrames = 8;

// One map and its labels. Positions are stored with their rows padded to kConvColumns and their number of rows to
// kConvRows; the maps in shared memory are padded with zeros to what the padded positions and taps reach.
struct ConvCudaFrame {
  const float* features;        // (C, H, W)
  const float* target;          // (H - kh + 1, W - kw + 1)
  int64_t height, width;        // of the map
  int64_t out_h, out_w;         // of the response
  int64_t rows, columns;        // of the response, padded
  int64_t first;                // its first position among the padded positions of all frames
  int64_t x, x_rows, x_stride;  // in a block's shared memory: offset, rows of a channel, floats of a row
};

struct ConvRunCudaArgs {
  ConvCudaFrame frames[kConvFrames];
  int64_t frame_count, channels, kernel_h, kernel_w;
  LossParams loss;
  float padding;
  double weight_decay, learning_rate, bias_learning_rate;
  double tolerance;                  // stop when the data loss falls below it; negative: never
  double first_power, second_power;  // 0.9 and 0.999 to the power of the steps the moments have seen
  int64_t adam;                      // else plain gradient descent
  int64_t steps, evaluate;
  int64_t patience;       // stop when the objective has not fallen by a thousandth for so many steps; 0: never
  float* weight;          // (C, kh, kw), updated in place
  float* bias;            // (1,), likewise
  float* moments;         // (2, C, kh, kw), likewise; null without Adam
  float* bias_moments;    // (2,), null with `moments`
  double* history;        // out: (steps + 1, 2) of loss and SNR
  int64_t* counts;        // out: steps taken, rows of history written, 1 if `patience` ran out
  int64_t positions;      // padded, of all frames
  int64_t outputs;        // real ones
  float* partial;         // (blocks, positions): the response each block's taps add
  float* error;           // (positions): gradient of the loss; 0 where padded
  double* sums;           // (blocks, 4): loss, gradient, response, peak
  double* squares;        // (blocks): of the block's taps
  unsigned int* arrived;  // 0 at launch
  // Offsets in floats into a block's shared memory, behind the maps, and sizes of what lies there.
  int64_t error_at, error_stride, taps_at, parts_at;
  int64_t tiles;  // of taps, of the whole weight
};

}  // namespace ft
