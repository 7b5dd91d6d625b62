// prroi_pool on the GPU: arguments of the kernels.
#pragma once

#include "prroi_pool.h"

namespace ft {

constexpr int kPoolThreads = 256, kPoolWarps = kPoolThreads / 32;
constexpr int kPoolLaneChannels = 4;  // of one thread
constexpr int kPoolBinRows = 8;       // bins along y that a thread sums at once
// A block of the features' gradient owns this many cells along each side, and this many channels.
constexpr int kPoolCells = 8, kPoolChannels = 16;

// Grid: shares of the RoIs x shares of the channels x images.
struct PrroiPoolCudaArgs {
  PrroiPoolArgs pool;
  int64_t group;        // channels of a block
  int64_t slab_floats;  // dynamic shared memory for the rows of the map that a block's RoIs meet
};

// Grid: tiles of cells x shares of the channels x images.
struct PrroiFeaturesGradientCudaArgs {
  PrroiFeaturesGradientArgs gradient;
};

// Grid: RoIs x shares of the channels. `gradient.out` is (shares, count, 5): the shares are still to be added.
struct PrroiRoisGradientCudaArgs {
  PrroiRoisGradientArgs gradient;
  int64_t group;  // channels of a block
};

}  // namespace ft
