/* The only kernels header that train/ includes: devices and their memory, and the operators. */
#pragma once

#include "kernels/device.h"
#include "kernels/ops.h"
