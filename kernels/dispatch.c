/* The operators' public functions: the rules of ops.h, then one indirect call. */
#include "kernels/backend.h"
#include "kernels/rules.h"

/* With check_each an error that would show later shows here, where its operator is known. */
static seo_err finish(seo_device *dev, seo_err err, const char *op) {
    if (err == SEO_OK && dev->check_each) {
        err = dev->backend->sync(dev);
        if (err != SEO_OK) err = seo_err_context(err, "%s", op);
    }
    return seo_device_leave(dev, err);
}

#define SEO_OP(op)                                                                                 \
    seo_err seo_##op(seo_device *dev, const seo_##op##_args *args) {                               \
        seo_err err = seo_device_enter(dev, SEO_CALL_CAPTURABLE, #op);                             \
        if (err != SEO_OK) return err;                                                             \
        err = seo_rules_##op(dev->backend, args);                                                  \
        return finish(dev, err != SEO_OK ? err : dev->backend->op(dev, args), #op);                \
    }
#include "kernels/ops.def"
#undef SEO_OP
