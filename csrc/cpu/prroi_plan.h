// Where the bins of every RoI lie: cells and weights per axis, RoIs grouped by image. Made once per call.
#pragma once

#include "cpu/scratch.h"
#include "prroi_pool.h"

namespace ft {
namespace FT_ISA {

constexpr int64_t kChannels = 32;  // channels per block: with a window of cells they stay in the first cache

// Threads cost more than they give below some ten thousand pooled values.
inline int threads_for(int64_t values) { return values < 16384 ? 1 : max_threads(); }

// Cache-line aligned memory, not initialised.
class Block {
 public:
  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { std::free(at_); }
  char* allocate(int64_t bytes) {
    at_ = static_cast<char*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64));
    if (at_ == nullptr) throw std::bad_alloc();
    return at_;
  }

 private:
  char* at_ = nullptr;
};

// Cells first … first + count − 1 and their weights, for one axis of every RoI and bin.
struct AxisBins {
  int64_t bins, taps, size;  // taps: room for weights per bin
  int32_t *first, *count;    // RoI × bins
  float* weight;             // RoI × bins × taps
  int64_t* slot;             // RoI: whose cells and weights are its own, too

  int64_t begin(int64_t k, int64_t bin) const { return first[slot[k] * bins + bin]; }
  int64_t number(int64_t k, int64_t bin) const { return count[slot[k] * bins + bin]; }
  const float* weights(int64_t k, int64_t bin) const { return weight + (slot[k] * bins + bin) * taps; }
};

// Cells from `begin` to `end` (exclusive) of one axis.
struct Span {
  int64_t begin, end;
  int64_t size() const { return end > begin ? end - begin : 0; }
  void include(const Span& other) {
    if (other.size() == 0) return;
    if (size() == 0) {
      *this = other;
      return;
    }
    begin = other.begin < begin ? other.begin : begin;
    end = other.end > end ? other.end : end;
  }
};

class Plan {
 public:
  explicit Plan(const PrroiRois& rois);

  Roi* roi;                   // count
  Span *window_y, *window_x;  // count: cells that the RoI meets
  Span *region_y, *region_x;  // images: cells that its RoIs meet
  int64_t* order;             // proper RoIs by image, in the caller's order within an image
  int64_t* image_begin;       // images + 1: where an image's RoIs begin in `order`
  AxisBins y, x;
  int64_t proper() const { return image_begin[images_]; }

  // End of the run that starts at `from`: RoIs next to each other in `order` that share image, y1 and y2, so
  // that their common columns are pooled in y once. A RoI joins if that adds no more columns than it has.
  int64_t run_end(int64_t from, int64_t until, Span* columns) const;

  // Whether RoIs mostly stand in runs: four or more to one pair of y edges.
  bool long_runs() const;

 private:
  void carve_lists(Carver& c, const PrroiRois& r);
  void carve_axes(Carver& c, int64_t count);
  void share(int64_t count);
  void group(int64_t count);

  int64_t images_;
  Block lists_, axes_;
};

// d value / d (low, high) of one axis of RoI k, in px, from d value / d weight of each bin's cells.
template <class Slopes, class Read>
void coordinate_gradient(const AxisBins& axis, int64_t k, double low, double high, double scale, const Slopes* slopes,
                         const Read& slope, double* by_low, double* by_high) {
  double from_low = 0, from_high = 0;
  for (int64_t q = 0; q < axis.bins; ++q) {
    for (int64_t t = 0; t < axis.number(k, q); ++t) {
      const BinWeight w = bin_weight(low, high, q, axis.bins, axis.begin(k, q) + t);
      const double by_weight = slope(slopes, q * axis.taps + t);
      from_low += by_weight * w.by_low;
      from_high += by_weight * w.by_high;
    }
  }
  *by_low = from_low * scale;
  *by_high = from_high * scale;
}

}  // namespace FT_ISA
}  // namespace ft
