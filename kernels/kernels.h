/* The only kernels header that train/ includes: devices and their memory, the operators, and the
 * collectives between ranks. */
#pragma once

#include "kernels/comm.h"
#include "kernels/device.h"
#include "kernels/ops.h"
