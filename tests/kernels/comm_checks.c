#include "tests/kernels/comm_checks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/fill.h"

/* Addends are a function of rank and index, so that every rank can make those of all others. */
typedef float addend(int32_t rank, int64_t index);

static uint32_t bits_of(int32_t rank, int64_t index) {
    uint32_t x = (uint32_t)index * 2654435761u + ((uint32_t)rank + 1) * 40503u;
    x = (x ^ (x >> 15)) * 2246822519u;
    x = (x ^ (x >> 13)) * 3266489917u;
    return x ^ (x >> 16);
}

/* Of many sizes: sums in another order differ. */
static float fraction(int32_t rank, int64_t index) {
    const uint32_t bits = bits_of(rank, index);
    const float size = (float)(1u << (bits >> 28));
    return size * ((float)(bits & 0xffffffu) / 8388608.0f - 1.0f);
}

static float whole_number(int32_t rank, int64_t index) {
    return (float)((int32_t)(bits_of(rank, index) % 129) - 64); /* exact in bf16 */
}

/* The rank of the part is a whole number in binary: left half, then right half. */
static float tree_sum(addend *value, seo_dtype wire, int32_t first, int32_t ranks, int64_t index) {
    if (ranks == 1) return stored(wire, value(first, index));
    const float left = tree_sum(value, wire, first, ranks / 2, index);
    return left + tree_sum(value, wire, first + ranks / 2, ranks / 2, index);
}

static float sequence_sum(addend *value, seo_dtype wire, int32_t ranks, int64_t index) {
    float sum = stored(wire, value(0, index));
    for (int32_t r = 1; r < ranks; r++) sum += stored(wire, value(r, index));
    return sum;
}

typedef struct sum_case {
    addend *value;
    int64_t n;
    seo_dtype wire;
    seo_sum_order order;
    bool accumulate, in_place;
} sum_case;

static const float k_before = 0.75f; /* what an accumulated sum is added to */

static seo_err check_sum(const seo_comm *comm, const sum_case *c, const float *got) {
    const int32_t size = seo_comm_size(comm);
    for (int64_t i = 0; i < c->n; i++) {
        const int64_t index = seo_comm_rank(comm) * c->n + i;
        float want = c->order == SEO_SUM_TREE ? tree_sum(c->value, c->wire, 0, size, index)
                                              : sequence_sum(c->value, c->wire, size, index);
        if (c->accumulate) want = k_before + want;
        if (memcmp(&want, &got[i], sizeof want) == 0) continue;
        return SEO_FAIL(SEO_ERR_NUMERIC,
                        "sum of %" PRId64 " elements, wire %d, order %d, accumulate %d, in place "
                        "%d: [%" PRId64 "] is %.9g, not %.9g",
                        c->n, (int)c->wire, (int)c->order, c->accumulate, c->in_place, i,
                        (double)got[i], (double)want);
    }
    return SEO_OK;
}

/* The other ranks' parts of inp are as they were. */
static seo_err check_kept(const seo_comm *comm, const sum_case *c, const float *inp) {
    const int64_t own = seo_comm_rank(comm) * c->n;
    for (int64_t i = 0; i < seo_comm_size(comm) * c->n; i++) {
        if (c->in_place && i >= own && i < own + c->n) continue;
        if (inp[i] == c->value(seo_comm_rank(comm), i)) continue;
        return SEO_FAIL(SEO_ERR_NUMERIC, "the sum changed what it read, at [%" PRId64 "]", i);
    }
    return SEO_OK;
}

static seo_err one_sum(seo_comm *comm, seo_device *dev, const sum_case *c) {
    seo_err err = SEO_OK;
    const int64_t all = seo_comm_size(comm) * c->n;
    float *host = new_f32(all), *host_out = new_f32(c->n);
    void *inp = NULL, *out = NULL;
    int64_t ticket = 0;
    for (int64_t i = 0; i < all; i++) host[i] = c->value(seo_comm_rank(comm), i);
    for (int64_t i = 0; i < c->n; i++) host_out[i] = k_before;
    SEO_TRY(seo_device_alloc(dev, all * 4, &inp));
    SEO_TRY(seo_device_alloc(dev, c->n * 4, &out));
    SEO_TRY(seo_device_copy_in(dev, inp, host, all * 4));
    SEO_TRY(seo_device_copy_in(dev, out, host_out, c->n * 4));
    void *to = c->in_place ? (float *)inp + seo_comm_rank(comm) * c->n : out;
    SEO_TRY(seo_comm_reduce_scatter(
        comm,
        &(seo_reduce_scatter_args){.out = seo_tensor_1d(to, SEO_DTYPE_F32, c->n),
                                   .inp = seo_tensor_1d(inp, SEO_DTYPE_F32, all),
                                   .wire = c->wire,
                                   .order = c->order,
                                   .accumulate = c->accumulate,
                                   .label = {"sum", c->n}},
        &ticket));
    SEO_TRY(seo_comm_wait(comm, ticket));
    SEO_TRY(seo_device_copy_out(dev, host_out, to, c->n * 4));
    SEO_TRY(seo_device_copy_out(dev, host, inp, all * 4));
    SEO_TRY(check_sum(comm, c, host_out));
    SEO_TRY(check_kept(comm, c, host));
done:
    seo_device_free(dev, inp);
    seo_device_free(dev, out);
    free(host);
    free(host_out);
    return err;
}

static seo_err sums(seo_comm *comm, seo_device *dev, bool any_order) {
    /* One unit, several slices of a test with small ones and a rest, more than two default ones. */
    static const int64_t counts[] = {128, 2048, 9 * 1024 + 128, 2 * 262144 + 2048};
    seo_err err = SEO_OK;
    const int32_t size = seo_comm_size(comm);
    const int64_t variants = 2 * 2 * 3;
    for (int64_t i = 0; i < SEO_COUNT_OF(counts) * variants; i++) {
        const int64_t v = i % variants;
        sum_case c = {.value = fraction,
                      .n = counts[i / variants],
                      .wire = v & 1 ? SEO_DTYPE_BF16 : SEO_DTYPE_F32,
                      .order = v & 2 ? SEO_SUM_TREE : SEO_SUM_SEQUENCE,
                      .accumulate = v / 4 == 1,
                      .in_place = v / 4 == 2};
        if (c.order == SEO_SUM_TREE && (size & (size - 1)) != 0) continue;
        if (i / variants == 3 && (v % 5 != 0 || size > 3)) continue; /* of the long ones a few */
        const bool by_library =
            c.order == SEO_SUM_SEQUENCE && c.wire == SEO_DTYPE_F32 && !c.accumulate;
        if (!any_order || !by_library) SEO_TRY(one_sum(comm, dev, &c));
        c.value = whole_number;
        if (i / variants < 3) SEO_TRY(one_sum(comm, dev, &c));
    }
done:
    return err;
}

/* The bytes of element i of rank r, whatever the type. */
static unsigned char byte_of(int32_t rank, int64_t i) {
    return (unsigned char)(i * 7 + i / 251 + rank * 31 + 1);
}

static seo_err check_bytes(const char *what, const unsigned char *all, int32_t size,
                           int64_t bytes) {
    for (int64_t i = 0; i < size * bytes; i++) {
        if (all[i] == byte_of((int32_t)(i / bytes), i % bytes)) continue;
        return SEO_FAIL(SEO_ERR_NUMERIC, "%s: byte %" PRId64 " of %" PRId64 " a rank is wrong",
                        what, i, bytes);
    }
    return SEO_OK;
}

static seo_err one_gather(seo_comm *comm, seo_device *dev, seo_dtype dtype, int64_t n,
                          bool in_place) {
    seo_err err = SEO_OK;
    const int32_t size = seo_comm_size(comm), rank = seo_comm_rank(comm);
    const int64_t bytes = n * seo_dtype_bytes(dtype);
    unsigned char *host = calloc((size_t)(size * bytes), 1);
    SEO_ASSERT(host != NULL);
    void *whole = NULL, *part = NULL;
    int64_t ticket = 0;
    for (int64_t i = 0; i < bytes; i++) host[i] = byte_of(rank, i);
    SEO_TRY(seo_device_alloc(dev, size * bytes, &whole));
    SEO_TRY(seo_device_alloc(dev, bytes, &part));
    void *from = in_place ? (char *)whole + rank * bytes : part;
    SEO_TRY(seo_device_copy_in(dev, from, host, bytes));
    SEO_TRY(
        seo_comm_all_gather(comm,
                            &(seo_all_gather_args){.whole = seo_tensor_2d(whole, dtype, size, n),
                                                   .inp = seo_tensor_1d(from, dtype, n),
                                                   .label = {"gather", in_place}},
                            &ticket));
    SEO_TRY(seo_comm_wait(comm, ticket));
    SEO_TRY(seo_device_copy_out(dev, host, whole, size * bytes));
    SEO_TRY(check_bytes("all_gather", host, size, bytes));
done:
    seo_device_free(dev, whole);
    seo_device_free(dev, part);
    free(host);
    return err;
}

static seo_err gathers(seo_comm *comm, seo_device *dev) {
    static const int64_t counts[] = {128, 9 * 1024 + 128, 2 * 262144 + 2048};
    seo_err err = SEO_OK;
    for (int64_t i = 0; i < SEO_COUNT_OF(counts) * 6; i++) {
        if (i / 6 == 2 && i % 5 != 0) continue;
        SEO_TRY(one_gather(comm, dev, (seo_dtype)(i % 3), counts[i / 6], i / 3 % 2 == 1));
    }
done:
    return err;
}

static seo_err host_gathers(seo_comm *comm) {
    static const int64_t counts[] = {0, 1, 8, 4096, SEO_COMM_HOST_BYTES_MAX};
    seo_err err = SEO_OK;
    unsigned char *mine = malloc(SEO_COMM_HOST_BYTES_MAX);
    unsigned char *all = malloc((size_t)seo_comm_size(comm) * SEO_COMM_HOST_BYTES_MAX);
    SEO_ASSERT(mine != NULL && all != NULL);
    for (int64_t i = 0; i < SEO_COMM_HOST_BYTES_MAX; i++) {
        mine[i] = byte_of(seo_comm_rank(comm), i);
    }
    for (int64_t i = 0; i < SEO_COUNT_OF(counts); i++) {
        SEO_TRY(seo_comm_gather_host(comm, (seo_comm_label){"losses", -1}, mine, counts[i], all));
        SEO_TRY(check_bytes("gather_host", all, seo_comm_size(comm), counts[i]));
    }
done:
    free(mine);
    free(all);
    return err;
}

/* Once more than the queue of a comm holds; with more ranks, which take turns on few cores, less.
 */
enum { IN_FLIGHT_MAX = 300, SMALL = 128 };
static int64_t in_flight(const seo_comm *comm) {
    return seo_comm_size(comm) <= 2 ? IN_FLIGHT_MAX : 40;
}

static seo_err queue_sums(seo_comm *comm, float *inp, float *out, int64_t *tickets) {
    seo_err err = SEO_OK;
    const int64_t all = (int64_t)seo_comm_size(comm) * SMALL;
    for (int64_t k = 0; k < in_flight(comm); k++) {
        SEO_TRY(seo_comm_reduce_scatter(
            comm,
            &(seo_reduce_scatter_args){.out = seo_tensor_1d(out, SEO_DTYPE_F32, SMALL),
                                       .inp = seo_tensor_1d(inp, SEO_DTYPE_F32, all),
                                       .accumulate = true,
                                       .label = {"step", k}},
            &tickets[k]));
        if (k > 0 && tickets[k] <= tickets[k - 1]) {
            return SEO_FAIL(SEO_ERR_ARG, "ticket %" PRId64 " after %" PRId64, tickets[k],
                            tickets[k - 1]);
        }
    }
done:
    return err;
}

/* Many in flight at once, each of which adds to the one before: done in order, and the last one's
 * ticket stands for all. The record counts them. */
static seo_err tickets_in_order(seo_comm *comm, seo_device *dev) {
    seo_err err = SEO_OK;
    const int32_t size = seo_comm_size(comm);
    const int64_t count = in_flight(comm);
    int64_t tickets[IN_FLIGHT_MAX];
    char last[32];
    float host[SMALL];
    void *inp = NULL, *out = NULL;
    seo_comm_place before, after;
    seo_comm_place_of(comm, &before);
    SEO_TRY(seo_device_alloc(dev, size * SMALL * 4, &inp));
    SEO_TRY(seo_device_alloc(dev, SMALL * 4, &out));
    for (int64_t i = 0; i < SMALL; i++) host[i] = (float)(seo_comm_rank(comm) + 1);
    for (int32_t r = 0; r < size; r++) {
        SEO_TRY(seo_device_copy_in(dev, (float *)inp + r * SMALL, host, sizeof host));
    }
    SEO_TRY(queue_sums(comm, inp, out, tickets));
    SEO_TRY(seo_comm_wait(comm, tickets[count - 1]));
    SEO_TRY(seo_comm_wait(comm, tickets[0]));
    SEO_TRY(seo_comm_wait(comm, 0));
    SEO_TRY(seo_device_copy_out(dev, host, out, sizeof host));
    seo_comm_place_of(comm, &after);
    snprintf(last, sizeof last, "step %" PRId64, count - 1);
    for (int64_t i = 0; i < SMALL; i++) {
        if (host[i] == (float)(count * size * (size + 1) / 2)) continue;
        SEO_TRY(SEO_FAIL(SEO_ERR_NUMERIC, "%" PRId64 " sums in flight gave %.9g", count,
                         (double)host[i]));
    }
    if (after.number != before.number + count || strcmp(after.name, last) != 0 ||
        after.bytes != (size - 1) * SMALL * 4 || after.entered_s < before.left_s ||
        after.left_s < after.entered_s) {
        SEO_TRY(SEO_FAIL(SEO_ERR_ARG, "the record is at %s, number %" PRId64 " after %" PRId64,
                         after.name, after.number, before.number));
    }
done:
    seo_device_free(dev, inp);
    seo_device_free(dev, out);
    return err;
}

seo_err comm_checks(void *context, seo_comm *comm, seo_device *dev) {
    const bool *any_order = context;
    seo_err err = SEO_OK;
    seo_comm_times times;
    SEO_TRY(host_gathers(comm));
    SEO_TRY(sums(comm, dev, any_order && *any_order));
    SEO_TRY(gathers(comm, dev));
    SEO_TRY(tickets_in_order(comm, dev));
    seo_comm_times_of(comm, &times);
    if (times.busy_s <= 0 || (times.sent_bytes > 0) != (seo_comm_size(comm) > 1)) {
        SEO_TRY(SEO_FAIL(SEO_ERR_ARG, "times: %.3g s, %" PRId64 " bytes", times.busy_s,
                         times.sent_bytes));
    }
done:
    return err;
}
