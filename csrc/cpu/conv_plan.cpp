// Which tile to cut a map into: counted work of one iteration for every tile worth a thought.
#include "conv_regression.h"
#include "cpu/conv_tiles.h"

namespace ft {
namespace FT_ISA {
namespace {

// Cycles per complex vector, fitted to timed iterations of six shapes on AVX2. The first is two sweeps over
// spectra that lie beyond L2, the second the same for the spectra of weight and gradient, written and read.
constexpr double kSweep = 9, kWeightTraffic = 12, kUnpack = 4;

bool smooth(index n) {
  for (const index p : {2, 3, 5}) {
    while (n % p == 0) n /= p;
  }
  return n == 1;
}

struct Length {
  index n;
  double cycles;  // of one transform
};

// Lengths from the kernel's side to the first that holds the whole map.
std::vector<Length> lengths(index kernel, index side) {
  std::vector<Length> out;
  for (index n = kernel;; ++n) {
    if (!smooth(n)) continue;
    out.push_back({n, fft_cost(n)});
    if (n >= side) return out;
  }
}

double cycles(const Geometry& g, const Length& along_u, const Length& along_v, int64_t frames) {
  const auto both_ways = [&](index columns) {
    const double first = static_cast<double>(even(columns) / 2) * (along_u.cycles + kUnpack * static_cast<double>(g.n));
    return 2 * (first + static_cast<double>(g.half) * along_v.cycles);
  };
  const double bins = static_cast<double>(g.bins * g.blocks), count = static_cast<double>(frames);
  return count * (kSweep * bins * static_cast<double>(g.tiles) + static_cast<double>(g.groups) * both_ways(g.vv)) +
         kWeightTraffic * bins + static_cast<double>(g.blocks) * both_ways(g.kv);
}

}  // namespace

void conv_plan(const ConvPlanArgs& args) {
  const std::vector<Length> rows = lengths(args.shape.kernel_h, args.shape.height);
  const std::vector<Length> columns = lengths(args.shape.kernel_w, args.shape.width);
  double best = __builtin_inf();
  for (const Length& h : rows) {
    for (const Length& w : columns) {
      ConvShape shape = args.shape;
      shape.tile_h = h.n;
      shape.tile_w = w.n;
      const Geometry g = make_geometry(shape);
      const double cost = g.rows_first ? cycles(g, h, w, args.frames) : cycles(g, w, h, args.frames);
      if (cost >= best) continue;
      best = cost;
      args.tile[0] = h.n;
      args.tile[1] = w.n;
    }
  }
}

}  // namespace FT_ISA
}  // namespace ft
