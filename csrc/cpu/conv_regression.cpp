// Spectra of a feature map, and what one pass over them gives: response and weight gradient.
#include "conv_regression.h"

#include <cmath>

#include "cpu/conv_tiles.h"
#include "cpu/threads.h"
#include "cpu/transpose.h"

namespace ft {
namespace FT_ISA {
namespace {

// `lines` lines of `count` neighbouring floats of each of FT_LANES channels, into a window with FT_LANES floats per
// position. Blocks of a line go outermost: the window is then written as FT_LANES streams.
struct Lines {
  index lines, count, channel;        // strides of the map
  index line_map, line_window, step;  // between lines in the map and the window, between positions in the window
};

void gather_lines(const float* from, const Lines& l, float* to) {
  index i = 0;
  for (; i + FT_LANES <= l.count; i += FT_LANES) {
    for (index line = 0; line < l.lines; ++line) {
      const float* at = from + line * l.line_map + i;
      transpose(at, l.channel, to + line * l.line_window + i * l.step, l.step);
    }
  }
  for (; i < l.count; ++i) {
    for (index line = 0; line < l.lines; ++line) {
      float* at = to + line * l.line_window + i * l.step;
      for (int lane = 0; lane < FT_LANES; ++lane) at[lane] = from[line * l.line_map + lane * l.channel + i];
    }
  }
}

// The n x m window of FT_LANES channels that tile (u0, v0) sees, u fastest; zero outside the map.
void gather(const Geometry& g, const float* features, index block, index u0, index v0, float* window) {
  const index rows = std::min(g.n, g.hu - u0), columns = std::min(g.m, g.hv - v0), channel = g.hu * g.hv;
  const index lanes = std::min<index>(FT_LANES, g.channels - block * FT_LANES);
  const float* from = features + block * FT_LANES * channel + u0 * g.map_u + v0 * g.map_v;
  if (rows < g.n || columns < even(g.m) || lanes < FT_LANES) {
    std::fill(window, window + even(g.m) * g.n * FT_LANES, 0.0f);
  }
  if (lanes == FT_LANES) {  // along the map's fast axis
    const index along_u = FT_LANES, along_v = g.n * FT_LANES;
    gather_lines(from,
                 g.rows_first ? Lines{rows, columns, channel, g.map_u, along_u, along_v}
                              : Lines{columns, rows, channel, g.map_v, along_v, along_u},
                 window);
    return;
  }
  for (index lane = 0; lane < lanes; ++lane) {
    for (index v = 0; v < columns; ++v) {
      for (index u = 0; u < rows; ++u) {
        window[(v * g.n + u) * FT_LANES + lane] = from[lane * channel + u * g.map_u + v * g.map_v];
      }
    }
  }
}

// What one call needs besides the spectra of the map.
struct OneCall {
  // `columns` is the widest half spectrum, `extra` floats come on top per thread.
  OneCall(const Geometry& geometry, index columns, index extra)
      : g(geometry),
        transform(g),
        half(transform.half_floats(columns)),
        own_(half + transform.scratch_floats() + extra),
        memory_(allocate(g.weight_floats() + g.weight_spectra_floats() + g.product_floats() + g.tile_lanes_floats() +
                         max_threads() * own_)),
        weight(memory_.get()),
        weight_spectra(weight + g.weight_floats()),
        product(weight_spectra + g.weight_spectra_floats()),
        tiles(product + g.product_floats()) {}
  explicit OneCall(const Geometry& geometry) : OneCall(geometry, std::max(geometry.kv, geometry.vv), 0) {}

  float* scratch(int thread) const { return tiles + g.tile_lanes_floats() + thread * own_; }

  void weight_forward(index block, float* mine) const {
    transform.forward_u(weight + block * even(g.kv) * g.ku * FT_LANES, g.ku * FT_LANES, g.ku, g.kv, mine, mine + half);
    transform.forward_v(mine, g.kv, 0, g.half, weight_spectra + block * kComplex, g.blocks * kComplex, mine + half);
  }

  const Geometry& g;
  const TileTransform transform;
  const index half;

 private:
  const index own_;
  const Buffer memory_;

 public:
  float* const weight;
  float* const weight_spectra;
  float* const product;
  float* const tiles;
};

// Windows of a group of tiles on a response-sized map that is zero-padded by the kernel less one.
void gather_padded(const Geometry& g, const float* map, index group, float* windows) {
  const index inner_u = g.out_u - g.ku + 1, inner_v = g.out_v - g.kv + 1;  // the map before padding
  const index map_u = g.rows_first ? inner_v : 1, map_v = g.rows_first ? 1 : inner_u;
  std::fill(windows, windows + even(g.m) * g.n * FT_LANES, 0.0f);
  for (index lane = 0; lane < std::min<index>(FT_LANES, g.tiles - group * FT_LANES); ++lane) {
    const index t = group * FT_LANES + lane;
    const index u0 = t % g.tu * g.vu - (g.ku - 1), v0 = t / g.tu * g.vv - (g.kv - 1);
    for (index v = std::max<index>(0, -v0); v < std::min(g.m, inner_v - v0); ++v) {
      for (index u = std::max<index>(0, -u0); u < std::min(g.n, inner_u - u0); ++u) {
        windows[(v * g.n + u) * FT_LANES + lane] = map[(u0 + u) * map_u + (v0 + v) * map_v];
      }
    }
  }
}

// One tile of FT_LANES channels into the (C, out) map; u0, v0 is its first position.
void scatter(const Geometry& g, const float* tile, index block, index u0, index v0, float scale, float* map) {
  for (index lane = 0; lane < std::min<index>(FT_LANES, g.channels - block * FT_LANES); ++lane) {
    float* to = map + (block * FT_LANES + lane) * g.out_u * g.out_v + u0 * g.response_u + v0 * g.response_v;
    for (index v = 0; v < std::min(g.vv, g.out_v - v0); ++v) {
      for (index u = 0; u < std::min(g.vu, g.out_u - u0); ++u) {
        to[u * g.response_u + v * g.response_v] = scale * tile[(v * g.vu + u) * FT_LANES + lane];
      }
    }
  }
}

}  // namespace

void conv_spectra(const ConvSpectraArgs& args) {
  const Geometry g = make_geometry(args.shape);
  const TileTransform transform(g);
  advise_huge_pages(args.spectra, g.spectra_floats());
  const index half = transform.half_floats(g.m), window = even(g.m) * g.n * FT_LANES;
  const Buffer memory = allocate(max_threads() * (g.blocks * half + window + transform.scratch_floats()));
#pragma omp parallel
  {
    float* mine = memory.get() + thread() * (g.blocks * half + window + transform.scratch_floats());
    float* tile = mine + g.blocks * half;
    float* scratch = tile + window;
#pragma omp for schedule(static)
    for (index t = 0; t < g.tiles; ++t) {
      for (index b = 0; b < g.blocks; ++b) {
        gather(g, args.features, b, t % g.tu * g.vu, t / g.tu * g.vv, tile);
        transform.forward_u(tile, g.n * FT_LANES, g.n, g.m, mine + b * half, scratch);
      }
      const index stride = g.tiles * g.blocks * kComplex;
      for (index k = 0; k < g.half; ++k) {  // all blocks of a frequency side by side: whole pages are written
        for (index b = 0; b < g.blocks; ++b) {
          transform.forward_v(mine + b * half, g.m, k, k + 1, args.spectra + (t * g.blocks + b) * kComplex, stride,
                              scratch);
        }
      }
    }
  }
}

void conv_response(const ConvResponseArgs& args) {
  const Geometry g = make_geometry(args.shape);
  const OneCall call(g);
  const index half = call.half;
  pack_weight(g, args.weight, call.weight, false);
#pragma omp parallel
  {
    float* mine = call.scratch(thread());
    const Share blocks = share(g.blocks, thread(), threads()), bins = share(g.bins, thread(), threads());
    for (index b = blocks.first; b < blocks.last; ++b) call.weight_forward(b, mine);
#pragma omp barrier
    correlate(g, args.spectra, call.weight_spectra, call.product, bins);
#pragma omp barrier
#pragma omp for schedule(static)
    for (index group = 0; group < g.groups; ++group) {
      float* tiles = call.tiles + group * even(g.vv) * g.vu * FT_LANES;
      call.transform.inverse_v(call.product + group * g.bins * kComplex, kComplex, g.vv, mine, mine + half);
      call.transform.inverse_u(mine, g.vv, g.vu, tiles, g.vu * FT_LANES, mine + half);
    }
  }
  unpack_tiles(g, call.tiles, args.response, call.transform.scale(), args.bias != nullptr ? *args.bias : 0.0f);
}

void conv_weight_gradient(const ConvWeightGradientArgs& args) {
  const Geometry g = make_geometry(args.shape);
  const OneCall call(g);
  const index half = call.half;
  pack_tiles(g, args.response_gradient, call.tiles, 0.0f);
#pragma omp parallel
  {
    float* mine = call.scratch(thread());
    const Share blocks = share(g.blocks, thread(), threads()), bins = share(g.bins, thread(), threads());
#pragma omp for schedule(static)
    for (index group = 0; group < g.groups; ++group) {
      const float* tiles = call.tiles + group * even(g.vv) * g.vu * FT_LANES;
      call.transform.forward_u(tiles, g.vu * FT_LANES, g.vu, g.vv, mine, mine + half);
      call.transform.forward_v(mine, g.vv, 0, g.half, call.product + group * g.bins * kComplex, kComplex, mine + half);
    }
    accumulate(g, args.spectra, call.product, call.weight_spectra, false, bins);
#pragma omp barrier
    for (index b = blocks.first; b < blocks.last; ++b) {
      float* weight = call.weight + b * even(g.kv) * g.ku * FT_LANES;
      call.transform.inverse_v(call.weight_spectra + b * kComplex, g.blocks * kComplex, g.kv, mine, mine + half);
      call.transform.inverse_u(mine, g.kv, g.ku, weight, g.ku * FT_LANES, mine + half);
    }
  }
  unpack_weight(g, call.weight, args.weight_gradient, call.transform.scale());
}

// The full convolution e * w is the valid correlation of e, padded by the kernel less one, with the kernel
// turned around: here the one-channel map has its tiles in the lanes, and the product its channels.
void conv_features_gradient(const ConvFeaturesGradientArgs& args) {
  ConvShape padded = args.shape;
  padded.height += args.shape.kernel_h - 1;
  padded.width += args.shape.kernel_w - 1;
  const Geometry g = make_geometry(padded);
  const index tile_floats = even(g.m) * g.n * FT_LANES;
  const OneCall call(g, g.m, g.bins * kComplex + tile_floats);
  const index half = call.half;
  const float scale = call.transform.scale();
  pack_weight(g, args.weight, call.weight, true);
#pragma omp parallel
  {
    float* mine = call.scratch(thread());
    float* spectrum = mine + half + call.transform.scratch_floats();
    float* tile = spectrum + g.bins * kComplex;
    const Share blocks = share(g.blocks, thread(), threads());
    for (index b = blocks.first; b < blocks.last; ++b) call.weight_forward(b, mine);
#pragma omp for schedule(static)
    for (index group = 0; group < g.groups; ++group) {
      gather_padded(g, args.response_gradient, group, tile);
      call.transform.forward_u(tile, g.n * FT_LANES, g.n, g.m, mine, mine + half);
      call.transform.forward_v(mine, g.m, 0, g.half, call.product + group * g.bins * kComplex, kComplex, mine + half);
    }
    for (index b = blocks.first; b < blocks.last; ++b) {
      for (index t = 0; t < g.tiles; ++t) {
        const float* e = call.product + t / FT_LANES * g.bins * kComplex + t % FT_LANES;
        for (index f = 0; f < g.bins; ++f) {
          const Complex w = load_complex(call.weight_spectra + (f * g.blocks + b) * kComplex);
          const float re = e[f * kComplex], im = e[f * kComplex + FT_LANES];
          store_complex(spectrum + f * kComplex, {re * w.re + im * w.im, im * w.re - re * w.im});
        }
        call.transform.inverse_v(spectrum, kComplex, g.vv, mine, mine + half);
        call.transform.inverse_u(mine, g.vv, g.vu, tile, g.vu * FT_LANES, mine + half);
        scatter(g, tile, b, t % g.tu * g.vu, t / g.tu * g.vv, scale, args.features_gradient);
      }
    }
  }
}

void conv_spectra_size(const ConvSpectraSizeArgs& args) { *args.floats = make_geometry(args.shape).spectra_floats(); }

}  // namespace FT_ISA
}  // namespace ft
