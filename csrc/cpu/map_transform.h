// Real 2-D FFT of one channel, with neighbouring cells side by side in a vector.
//
// Columns are transformed first, two vectors of them packed into one complex transform, then the rows of the
// half spectrum, a vector of them at a time. One channel is small enough for the nearest caches, and a sum over
// channels is a sum over calls: nothing crosses the lanes of a vector but the transposition between the passes.
#pragma once

#include "cpu/fft.h"
#include "cpu/scratch.h"

namespace ft {
namespace FT_ISA {

using index = std::ptrdiff_t;

// Spectrum of one map, in parts of whole complex elements (kComplex floats). First the "groups": a vector of row
// frequencies each, their column frequencies in the order of `FftPlan::position`. Row 0 and row H / 2 are spectra of
// real rows: where H / 2 is a multiple of a vector they are transformed as one complex row, and row H / 2, which
// would be alone in its group, becomes the "tail": its column frequencies side by side.
class MapTransform {
 public:
  struct Scratch {
    float *column, *packed, *lines, *group, *tail, *passes;
    Scratch(const MapTransform& t, Carver& carver);
  };

  MapTransform(int64_t height, int64_t width);

  index height() const { return height_; }
  index width() const { return width_; }
  index half() const { return half_; }  // row frequencies
  index parts() const { return groups_ + (tail_floats_ > 0 ? 1 : 0); }
  index part_floats(index part) const { return part < groups_ ? group_floats() : tail_floats_; }
  index group_floats() const { return width_ * kComplex; }  // of the largest part
  index floats() const { return groups_ * group_floats() + tail_floats_; }
  index cells() const { return height_ * width_; }

  // A window (H, W) as the transforms read it: in whole vectors, and with the factor that they leave to it.
  index window_floats() const { return height_ * padded_; }
  void prepare_window(const float* window, float* prepared) const;

  // map (H, W) times a prepared window (or null) -> spectrum.
  void forward(const float* map, index stride_row, const float* window, float* spectrum, Scratch& s) const;
  // The same part by part, each while it is in the nearest cache: use(part, its floats).
  template <class Use>
  void forward_parts(const float* map, index stride_row, const float* window, Scratch& s, const Use& use) const {
    columns(map, stride_row, window, s);
    for (index g = 0; g < groups_; ++g) {
      rows_of(g, s.group, s.tail, s);
      use(g, s.group);
    }
    if (tail_floats_ > 0) use(groups_, s.tail);
  }
  // spectrum -> map (H, W) contiguous, scaled by 1 / (H W).
  void inverse(const float* spectrum, float* map, Scratch& s) const;

  // Between a part of a spectrum and the layout of the model, (W, H / 2 + 1) with interleaved complex numbers.
  void write_complex(index part, const float* from, float* out) const;
  // What lies `ahead` floats further is fetched meanwhile.
  void read_complex(index part, const float* in, index ahead, float* to) const;
  // The same for a real array: only the real parts; what belongs to no frequency is read as 1, for divisors.
  void write_real(index part, const float* from, float* out) const;
  void read_real(index part, const float* in, float* to) const;

  // Sum of squares of the map that a spectrum belongs to: the share of one part.
  double energy(index part, const float* from) const;

 private:
  void columns(const float* map, index stride_row, const float* window, Scratch& s) const;
  void split(index x, Scratch& s) const;
  void rows_of(index g, float* group, float* tail, Scratch& s) const;
  void separate(float* group, float* tail) const;
  void scatter(const float* group, const float* tail, float* scattered) const;
  void merge(index x, Scratch& s) const;
  bool is_whole(index g) const { return (g + 1) * FT_LANES <= half_ || tail_floats_ > 0; }

  const FftPlan& along_y_;
  const FftPlan& along_x_;
  index height_, width_, half_, groups_, tail_floats_;
  index padded_;  // width in whole pairs of vectors
};

// Which of a group's row frequencies a lane holds: an order in which interleaved complex numbers are split and
// joined without crossing quarters of a vector.
FT_INLINE constexpr index frequency_of_lane(index lane) {
  return lane / 4 * 2 + lane % 2 + (lane % 4 < 2 ? 0 : FT_LANES / 2);
}

}  // namespace FT_ISA
}  // namespace ft
