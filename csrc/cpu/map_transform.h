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

// Spectrum of one map: vectors of row frequencies ("groups"), and in each the column frequencies in the order
// of `FftPlan::position`; complex elements of kComplex floats. Lanes past the last row frequency hold zeros.
class MapTransform {
 public:
  struct Scratch {
    float *column, *packed, *rows, *line, *group, *passes;
    Scratch(const MapTransform& t, Carver& carver);
  };

  MapTransform(int64_t height, int64_t width);

  index height() const { return height_; }
  index width() const { return width_; }
  index half() const { return half_; }      // row frequencies
  index groups() const { return groups_; }  // vectors of them
  index group_floats() const { return width_ * kComplex; }
  index floats() const { return groups_ * group_floats(); }
  index cells() const { return height_ * width_; }

  // map (H, W) times window (or null) -> spectrum.
  void forward(const float* map, index stride_row, const float* window, float* spectrum, Scratch& s) const;
  // The same group by group, each while it is in the nearest cache: use(g, spectrum of the group). The map at
  // `next` (or null) is fetched meanwhile.
  template <class Use>
  void forward_groups(const float* map, index stride_row, const float* window, const float* next, Scratch& s,
                      const Use& use) const {
    columns(map, stride_row, window, next, s);
    for (index g = 0; g < groups_; ++g) {
      rows_of(g, s.group, s);
      use(g, s.group);
    }
  }
  // spectrum -> map (H, W) contiguous, scaled by 1 / (H W).
  void inverse(const float* spectrum, float* map, Scratch& s) const;

  // Between a group of a spectrum and the layout of the model, (W, H / 2 + 1) with interleaved complex numbers.
  void write_complex(index g, const float* group, float* out) const;
  // What lies `ahead` floats further is fetched meanwhile.
  void read_complex(index g, const float* in, index ahead, float* group) const;
  // The same for a real array: only the real parts; lanes past the last row frequency are read as 1, for divisors.
  void write_real(index g, const float* group, float* out) const;
  void read_real(index g, const float* in, float* group) const;

  // Sum of squares of the map that a spectrum belongs to: the share of one group.
  double energy(index g, const float* group) const;

 private:
  void columns(const float* map, index stride_row, const float* window, const float* next, Scratch& s) const;
  void split(index x, Scratch& s) const;
  void rows_of(index g, float* group, Scratch& s) const;
  index lanes_of(index group) const {
    return half_ - group * FT_LANES < FT_LANES ? half_ - group * FT_LANES : FT_LANES;
  }
  index place(index k) const { return along_x_.position[static_cast<std::size_t>(k)] * kComplex; }

  const FftPlan& along_y_;
  const FftPlan& along_x_;
  index height_, width_, half_, groups_;
  index padded_;  // width in whole pairs of vectors
};

}  // namespace FT_ISA
}  // namespace ft
