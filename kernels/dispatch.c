/* The operators' public functions: the rules of ops.h, then one indirect call. */
#include "kernels/backend.h"
#include "kernels/rules.h"

#define SEO_OP(op)                                                                                 \
    seo_err seo_##op(seo_device *dev, const seo_##op##_args *args) {                               \
        seo_err err = seo_rules_##op(dev->backend, args);                                          \
        return err != SEO_OK ? err : dev->backend->op(dev, args);                                  \
    }
#include "kernels/ops.def"
#undef SEO_OP
