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
};

// R rows of V blocks; all sums stay in registers.
template <int R, int V>
FT_INLINE void panel(const Product& p, index row) {
  vf sums[R][V] = {};
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
  return kBlocksAtOnce * std::max(block_floats(), even(full.kv) * full.ku * FT_LANES);
}

void Reduction::compose(const float* weight, Share blocks) const {
  const index cells = full.kv * full.ku, step = even(full.kv) * full.ku * FT_LANES;
  for (index b = blocks.first; b < blocks.last; b += kBlocksAtOnce) {
    const Product p{weight,
                    FT_LANES,
                    step,
                    1,
                    reduced.blocks,
                    FT_LANES,
                    lanes + b * block_floats(),
                    block_floats(),
                    composed + b * step,
                    step};
    multiply<kCells>(p, cells, std::min(kBlocksAtOnce, blocks.last - b));
  }
}

void Reduction::slope(const float* weight, index block, index count, float* out) const {
  const index cells = full.kv * full.ku, step = even(full.kv) * full.ku * FT_LANES;
  for (index b = 0; b < reduced.blocks; ++b) {  // FT_LANES rows of A each
    const Product p{
        weight + b * step, 1, 0, FT_LANES, 1, cells, gradient + block * step, step, out + b * FT_LANES * FT_LANES,
        block_floats()};
    multiply<kChannels>(p, FT_LANES, count);
  }
}

void Reduction::weight_slope(index block, index count, float* out) const {
  const index cells = full.kv * full.ku, step = even(full.kv) * full.ku * FT_LANES;
  const index turned_block = full.blocks * FT_LANES * FT_LANES;
  const Product p{gradient,     FT_LANES, step, 1, full.blocks, FT_LANES, turned + block * turned_block,
                  turned_block, out,      step};
  multiply<kCells>(p, cells, count);
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
