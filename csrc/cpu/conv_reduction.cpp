// The three products of a trained reduction, and its packing.
#include "cpu/conv_reduction.h"

#include <cstring>

#include "cpu/transpose.h"

namespace ft {
namespace FT_ISA {
namespace {

// One product: out[row] = sum over k of scalar(row, k) * vector[k], where k runs over `outer` stretches of `inner`.
struct Product {
  const float* scalar;
  index scalar_row, scalar_outer, scalar_inner;
  index outer, inner;
  const float* vector;  // (blocks, k, FT_LANES)
  index vector_block;
  float* out;  // (blocks, row, FT_LANES)
  index out_block;
  bool add = false;  // to what `out` has
};

// R rows of V blocks; all sums stay in registers.
template <int R, int V>
FT_INLINE void panel(const Product& p, index row) {
  vf sums[R][V] = {};
  if (p.add) {
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) sums[r][v] = load(p.out + v * p.out_block + (row + r) * FT_LANES);
    }
  }
  const float* x = p.vector;
  for (index o = 0; o < p.outer; ++o) {
    const float* s = p.scalar + row * p.scalar_row + o * p.scalar_outer;
    for (index k = 0; k < p.inner; ++k, s += p.scalar_inner, x += FT_LANES) {
      vf xs[V];
      for (int v = 0; v < V; ++v) xs[v] = load(x + v * p.vector_block);
      for (int r = 0; r < R; ++r) {
        for (int v = 0; v < V; ++v) sums[r][v] += s[r * p.scalar_row] * xs[v];
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(p.out + v * p.out_block + (row + r) * FT_LANES, sums[r][v]);
  }
}

template <int R, int V>
void panels(const Product& p, index row, index rows) {
  for (; row + R <= rows; row += R) panel<R, V>(p, row);
  if constexpr (R > 1) {
    if (row < rows) panels<R - 1, V>(p, row, rows);
  }
}

// R rows at a time.
template <int R>
void multiply(const Product& p, index rows, index blocks) {
  if (blocks == 2) {
    panels<R, 2>(p, 0, rows);
  } else {
    panels<R, 1>(p, 0, rows);
  }
}

constexpr int kCells = 6;     // with two blocks: 12 sums, what 16 registers hold
constexpr int kChannels = 4;  // divides FT_LANES

}  // namespace

index Reduction::slope_floats() const {
  const index blocks = mixes() ? 1 + fusion.regressors : 1;
  return kBlocksAtOnce * std::max(block_floats(), blocks * cell_floats());
}

index Reduction::first_channel(index map) const {
  index first = 0;
  for (index i = 0; i < map; ++i) first += fusion.channels[i];
  return first;
}

const float* Reduction::of_map(const float* weight, index map) const {
  return mixes() ? mixed + map * reduced.blocks * cell_floats() : weight;
}

void Reduction::mix(const float* weight, Share blocks) const {
  const index all = reduced.blocks * cell_floats();
  for (index map = 0; map < fusion.maps; ++map) {
    for (index i = blocks.first * cell_floats(); i < blocks.last * cell_floats(); i += FT_LANES) {
      vf sum = {};
      for (index r = 0; r < fusion.regressors; ++r) {
        sum += static_cast<float>(fusion.mixing[map * fusion.regressors + r]) * load(weight + r * all + i);
      }
      store(mixed + map * all + i, sum);
    }
  }
}

void Reduction::compose(const float* weight, Share blocks, float* out) const {
  const index cells = full.kv * full.ku, step = cell_floats();
  each(blocks, [&](const Stretch& at) {
    float* to = composed + at.block * step;
    const Product p{of_map(weight, at.map),
                    FT_LANES,
                    step,
                    1,
                    reduced.blocks,
                    FT_LANES,
                    lanes + at.block * block_floats(),
                    block_floats(),
                    at.whole() ? to : out,
                    step};
    multiply<kCells>(p, cells, at.count);
    for (index i = 0; !at.whole() && i < cells * FT_LANES; i += FT_LANES) {
      for (index k = at.first_lane; k < at.last_lane; ++k) to[i + k] = out[i + k];
    }
  });
}

void Reduction::slope(const float* weight, const Stretch& at, float* out) const {
  const index cells = full.kv * full.ku, step = cell_floats();
  for (index b = 0; b < reduced.blocks; ++b) {  // FT_LANES rows of A each
    const Product p{of_map(weight, at.map) + b * step,
                    1,
                    0,
                    FT_LANES,
                    1,
                    cells,
                    gradient + at.block * step,
                    step,
                    out + b * FT_LANES * FT_LANES,
                    block_floats()};
    multiply<kChannels>(p, FT_LANES, at.count);
  }
}

// A_i G_i over the channels of one map: a part of a block, whole blocks, a part of a block.
void Reduction::map_slope(index map, index block, index count, float* out) const {
  const index cells = full.kv * full.ku, step = cell_floats();
  const index turned_block = full.blocks * FT_LANES * FT_LANES;
  const index first = first_channel(map);
  const index end = map + 1 == fusion.maps ? full.blocks * FT_LANES : first + fusion.channels[map];
  for (index c = first; c < end;) {
    const bool whole = c % FT_LANES == 0 && end - c >= FT_LANES;
    const index inner = whole ? FT_LANES : std::min(end, (c / FT_LANES + 1) * FT_LANES) - c;
    const index outer = whole ? (end - c) / FT_LANES : 1;
    const Product p{gradient + c / FT_LANES * step + c % FT_LANES, FT_LANES,     step, 1,    outer,    inner,
                    turned + block * turned_block + c * FT_LANES,  turned_block, out,  step, c > first};
    multiply<kCells>(p, cells, count);
    c += inner * outer;
  }
}

const float* Reduction::weight_slopes(index block, index count, float* slopes) const {
  if (!mixes()) {
    map_slope(0, block, count, slopes);
    return slopes;
  }
  const index each_floats = kBlocksAtOnce * cell_floats();
  float* const totals = slopes + each_floats;
  std::fill(totals, totals + fusion.regressors * each_floats, 0.0f);
  for (index map = 0; map < fusion.maps; ++map) {
    map_slope(map, block, count, slopes);
    for (index r = 0; r < fusion.regressors; ++r) {
      const float share = static_cast<float>(fusion.mixing[map * fusion.regressors + r]);
      if (share == 0) continue;
      float* const total = totals + r * each_floats;
      for (index b = 0; b < count; ++b) {  // columns beyond the kernel's are not written
        for (index i = b * cell_floats(); i < b * cell_floats() + full.kv * full.ku * FT_LANES; i += FT_LANES) {
          store(total + i, load(total + i) + share * load(slopes + i));
        }
      }
    }
  }
  return totals;
}

void Reduction::turn(Share blocks) const {
  const index turned_block = full.blocks * FT_LANES * FT_LANES;
  for (index b = blocks.first; b < blocks.last; ++b) {
    for (index d = 0; d < reduced.blocks; ++d) {
      transpose(lanes + b * block_floats() + d * FT_LANES * FT_LANES, FT_LANES,
                turned + d * turned_block + b * FT_LANES * FT_LANES, FT_LANES);
    }
  }
}

void pack_reduction(const Reduction& r, const float* matrix, float* lanes) {
  std::memset(lanes, 0, static_cast<std::size_t>(r.floats()) * sizeof(float));
  const index channels = r.full.channels;
  for (index d = 0; d < r.reduced.channels; ++d) {
    for (index c = 0; c < channels; ++c) {
      lanes[c / FT_LANES * r.block_floats() + d * FT_LANES + c % FT_LANES] = matrix[d * channels + c];
    }
  }
}

void unpack_reduction(const Reduction& r, const float* lanes, float* matrix) {
  const index channels = r.full.channels;
  for (index d = 0; d < r.reduced.channels; ++d) {
    for (index c = 0; c < channels; ++c) {
      matrix[d * channels + c] = lanes[c / FT_LANES * r.block_floats() + d * FT_LANES + c % FT_LANES];
    }
  }
}

}  // namespace FT_ISA
}  // namespace ft
