// The entries of the CUDA kernels. Each returns a cudaError_t as int; nothing is allocated or synchronised.
#pragma once

#include "regression_loss.h"

namespace ft {

// `partial` holds `blocks` doubles on the device.
int regression_loss_cuda(const RegressionLossArgs& args, double* partial, int blocks, void* stream);

const char* cuda_error_text(int code);
int cuda_set_device(int device);

}  // namespace ft
