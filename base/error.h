/* One error type for the whole program: a code, and a thread-local record of what went wrong.
 *
 * The message is written for the user: it names the file, the place in it and the remedy. Where in
 * the source it was raised is kept beside it and shown only with --log-level debug.
 *
 * The record belongs to the thread. Work done on another thread copies its message out with
 * seo_err_detail() before it ends and the waiting thread raises it again with SEO_FAIL. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#define SEO_ERR_MAP(X)                                                                             \
    X(SEO_OK, "success")                                                                           \
    X(SEO_ERR_ARG, "argument breaks the documented contract")                                      \
    X(SEO_ERR_USAGE, "wrong usage or configuration")                                               \
    X(SEO_ERR_SHAPE, "tensor shape or dtype mismatch")                                             \
    X(SEO_ERR_MEMORY, "out of memory")                                                             \
    X(SEO_ERR_IO, "file or socket failure")                                                        \
    X(SEO_ERR_FORMAT, "file content is damaged or is not what its header promises")                \
    X(SEO_ERR_MISSING, "no such file or entry")                                                    \
    X(SEO_ERR_LOCKED, "in use by another process")                                                 \
    X(SEO_ERR_DEVICE, "device runtime failure")                                                    \
    X(SEO_ERR_UNSUPPORTED, "not available in this build or on this device")                        \
    X(SEO_ERR_NUMERIC, "a number is not finite")                                                   \
    X(SEO_ERR_STOPPED, "stopped by a signal")                                                      \
    X(SEO_ERR_LOST, "another rank of the run is gone")

typedef enum seo_err {
#define X(code, text) code,
    SEO_ERR_MAP(X)
#undef X
} seo_err;

/* The text of `code`; a constant string. */
const char *seo_err_text(seo_err code);

/* The message of this thread's last SEO_FAIL, "" before the first; valid until the next one. */
const char *seo_err_detail(void);

/* "file.c:123" of this thread's last SEO_FAIL. */
const char *seo_err_where(void);

/* Puts "<prefix>: " before the message: a caller adds the file or step that the callee could not
 * know. Returns `code`, so that it can stand in a return statement. */
seo_err seo_err_context(seo_err code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

seo_err seo_fail_at(seo_err code, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define SEO_FAIL(code, ...) seo_fail_at((code), __FILE__, __LINE__, __VA_ARGS__)

/* Needs a local `seo_err err = SEO_OK;` and a `done:` label that releases what the function owns.
 */
#define SEO_TRY(expr)                                                                              \
    do {                                                                                           \
        err = (expr);                                                                              \
        if (err != SEO_OK) goto done;                                                              \
    } while (0)

#ifdef __cplusplus
}
#endif
