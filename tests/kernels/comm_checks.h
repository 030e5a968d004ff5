/* What every comm must do, checked by each rank for itself against sums made without one. */
#pragma once

#include "kernels/kernels.h"

/* A threads_body. Its error says what differs and where. The context is NULL, or for a comm whose
 * library adds up in an order of its own where that is allowed, a bool that is true: then these
 * sums are of whole numbers alone, which have the same bits in every order. */
seo_err comm_checks(void *context, seo_comm *comm, seo_device *dev);
