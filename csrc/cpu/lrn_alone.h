// The commonest normalisation without a pool: five channels, power ¾.
#pragma once

#include "lrn.h"

namespace ft {
namespace FT_ISA {

// Whether `lrn_alone` takes these arguments.
bool lrn_alone_takes(const LrnArgs& a);
void lrn_alone(const LrnArgs& a);

}  // namespace FT_ISA
}  // namespace ft
