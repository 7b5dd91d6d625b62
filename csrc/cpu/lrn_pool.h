// The commonest relu → LRN → max-pool: five channels, power ¾, windows of 3 × 3 every 2 px, none of them cut.
#pragma once

#include "lrn.h"

namespace ft {
namespace FT_ISA {

// Whether `lrn_pool` takes these arguments.
bool lrn_pool_takes(const LrnArgs& a);

// Writes `out`, or returns false where the values are such that their squares say too little (NaN, infinities,
// beyond 1e18, or a result that nowhere reaches 1e-7): then what is in `out` is of no use.
bool lrn_pool(const LrnArgs& a);

}  // namespace FT_ISA
}  // namespace ft
