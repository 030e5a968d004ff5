/* What every comm must do, checked by each rank for itself against sums made without one. */
#pragma once

#include "kernels/kernels.h"

/* A threads_body; the context is not used. Its error says what differs and where. */
seo_err comm_checks(void *context, seo_comm *comm, seo_device *dev);
