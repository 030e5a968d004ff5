#include "train/plan/probe.h"

#include "base/check.h"
#include "base/progress.h"
#include "kernels/kernels.h"

/* A product of GPT-2's width over a micro-batch's rows. */
enum { ROWS = 512, WIDTH = 768 };

static const double k_probe_s = 0.3;

typedef struct product {
    seo_device *dev;
    seo_tensor out, a, b;
} product;

static seo_err take(product *p) {
    seo_err err = SEO_OK;
    void *out = NULL, *a = NULL, *b = NULL;
    const int64_t row = WIDTH * (int64_t)sizeof(float);
    SEO_TRY(seo_device_alloc(p->dev, ROWS * row, &out));
    SEO_TRY(seo_device_alloc(p->dev, ROWS * row, &a));
    SEO_TRY(seo_device_alloc(p->dev, WIDTH * row, &b));
    p->out = seo_tensor_2d(out, SEO_DTYPE_F32, ROWS, WIDTH);
    p->a = seo_tensor_2d(a, SEO_DTYPE_F32, ROWS, WIDTH);
    p->b = seo_tensor_2d(b, SEO_DTYPE_F32, WIDTH, WIDTH);
done:
    return err;
}

static seo_err multiply(const product *p) {
    return seo_matmul(
        p->dev, &(seo_matmul_args){.out = p->out, .a = p->a, .b = p->b, .layout = SEO_MATMUL_NT});
}

seo_err seo_probe_cpu(int32_t threads, seo_probe *out) {
    seo_err err = SEO_OK;
    product p = {0};
    *out = (seo_probe){0};
    SEO_TRY(seo_device_open_cpu(&(seo_cpu_options){.threads = threads}, &p.dev));
    SEO_TRY(take(&p));
    SEO_TRY(multiply(&p));
    const double start = seo_clock_s();
    double seconds = 0;
    int64_t products = 0;
    do {
        SEO_TRY(multiply(&p));
        products++;
        seconds = seo_clock_s() - start;
    } while (seconds < k_probe_s);
    out->threads = seo_device_threads(p.dev);
    out->flops = (double)products * 2.0 * ROWS * WIDTH * WIDTH / seconds;
done:
    seo_device_close(p.dev);
    return err;
}
