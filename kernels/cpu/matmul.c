/* Matrix products, in three layouts, on packed panels of both operands.
 *
 * The product is cut into blocks whose operands fit the scratch of all threads together, which for
 * most products is one block. The threads pack its panels of A and B, then take tiles of the output
 * from a common queue: two barriers a block, few enough to share the processor with other work. An
 * output element's sum is made in pieces of a fixed number of k, ascending, by one thread, so its
 * bits depend neither on the number of threads nor on the size of the blocks.
 * A few rows times a transposed matrix (generation) is bound by reading B once and is done by dot
 * products straight from it.
 *
 * Refuses: allocation, split sums over k between threads. Source: Goto & van de Geijn 2008. */
#include <stdbool.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"

enum {
    K_PIECE = 384,         /* of a panel of B 48 KiB, which stay in the nearest caches */
    K_BLOCK = 8 * K_PIECE, /* the most k of one block */
    TASK_ROWS = 120,       /* a multiple of every level's tile; 180 KiB of A stay in L2 */
    PACK_PANELS = 4,
    TASK_PANELS_MAX = 8, /* of B */
    TASKS_PER_THREAD = 16,
    PREFETCH_STEPS = 4, /* so that the tiles of one panel of B bring in the whole next one */
    LINE_FLOATS = 16,
    SLICE_FLOATS = K_PIECE / PREFETCH_STEPS * LINE_FLOATS, /* what one tile asks for of a stream */
    A_SLICES = (SEO_TILE_ROWS * K_PIECE + SLICE_FLOATS - 1) / SLICE_FLOATS,
    DOT_ROWS_MAX = 16, /* rows of A up to which packing B costs more than it saves */
    DOT_TASK_COLS = 32,
    DIRECT_ROWS_MAX = 4 * SEO_TILE_ROWS, /* likewise for a B that needs no transposition */
    SERIAL_WORK = 1 << 21 /* multiplications below which waking threads costs more than it saves */
};

/* One side of the product: element (i, k) is data[i * ld + k] when k_contiguous, else data[k * ld +
 * i]. */
typedef struct operand {
    const float *data;
    int64_t ld, count;
    bool k_contiguous;
} operand;

typedef struct product {
    operand a, b; /* a.count = M, b.count = N */
    int64_t k_count;
    float *out;
    const float *bias; /* NULL: none */
    bool accumulate;
    bool direct;                           /* full panels of B are read where they are */
    int64_t row_block, col_block, k_block; /* the largest block; panels are k_block long */
    int64_t task_panels;
    float *packed_a, *packed_b;
    int threads;
} product;

/* The part of the product that is packed now: rows [row, row + rows), columns and k likewise. */
typedef struct block {
    int64_t row, rows, col, cols, k, ks;
} block;

/* Panels of one operand that are packed together; panel 0 starts at line `first`. */
typedef struct span {
    int64_t first, panel, panel_end, k_block;
} span;

/* Panels [panel, panel_end) of an operand: of each `width` lines from `first` on, k ascending, and
 * 0 beyond the operand's edge. Where lines run along memory, several panels take turns at each k,
 * so that memory is read in order. */
SEO_INLINE void pack_panels(float *dst, int64_t width, const operand *m, const block *p,
                            const span *s) {
    int64_t stride = width * s->k_block;
    if (m->k_contiguous) {
        for (int64_t i = s->panel; i < s->panel_end; i++) {
            int64_t line = s->first + i * width;
            seo_lines lines = {m->data + line * m->ld + p->k, m->ld, m->count - line};
            seo_pack_transposed(dst + i * stride, width, lines, p->ks);
        }
        return;
    }
    for (int64_t k = 0; k < p->ks; k++) {
        const float *src = m->data + (p->k + k) * m->ld + s->first;
        for (int64_t i = s->panel; i < s->panel_end; i++) {
            float *to = dst + i * stride + k * width;
            int64_t valid = m->count - s->first - i * width;
            if (valid >= width) {
                memcpy(to, src + i * width, (size_t)width * sizeof(float));
                continue;
            }
            for (int64_t r = 0; r < width; r++) to[r] = r < valid ? src[i * width + r] : 0.0f;
        }
    }
}

static void pack_a(const product *g, const block *p, int64_t group) {
    int64_t panel = group * PACK_PANELS;
    int64_t end = seo_min_i64(panel + PACK_PANELS, seo_div_up(p->rows, SEO_TILE_ROWS));
    span s = {p->row, panel, end, g->k_block};
    pack_panels(g->packed_a, SEO_TILE_ROWS, &g->a, p, &s);
}

static bool is_direct(const product *g, int64_t col) {
    return g->direct && col + SEO_TILE_COLS <= g->b.count;
}

static void pack_b(const product *g, const block *p, int64_t group) {
    int64_t panel = group * PACK_PANELS;
    int64_t end = seo_min_i64(panel + PACK_PANELS, seo_div_up(p->cols, SEO_TILE_COLS));
    while (panel < end && is_direct(g, p->col + panel * SEO_TILE_COLS)) panel++;
    span s = {p->col, panel, end, g->k_block};
    pack_panels(g->packed_b, SEO_TILE_COLS, &g->b, p, &s);
}

/* A tile at the right or lower edge goes through memory. */
static void store_edge(const product *g, const seo_tile *tile, int64_t row, int64_t col,
                       bool first) {
    int64_t rows = seo_min_i64(SEO_TILE_ROWS, g->a.count - row);
    int64_t cols = seo_min_i64(SEO_TILE_COLS, g->b.count - col);
    const float *sums = (const float *)tile;
    for (int64_t i = 0; i < rows; i++) {
        float *out = g->out + (row + i) * g->b.count + col;
        for (int64_t j = 0; j < cols; j++) {
            float x = sums[i * SEO_TILE_COLS + j];
            if (first && g->bias) x += g->bias[col + j];
            out[j] = !first || g->accumulate ? out[j] + x : x;
        }
    }
}

SEO_INLINE void store_tile(const product *g, const seo_tile *tile, int64_t row, int64_t col,
                           bool first) {
    if (row + SEO_TILE_ROWS > g->a.count || col + SEO_TILE_COLS > g->b.count) {
        seo_tile copy = *tile;
        store_edge(g, &copy, row, col, first);
        return;
    }
    bool add = !first || g->accumulate;
    seo_vf bias[SEO_TILE_VECS] = {{0}};
    if (first && g->bias) {
        for (int v = 0; v < SEO_TILE_VECS; v++) bias[v] = seo_vload(g->bias + col + v * SEO_VWIDTH);
    }
    float *out = g->out + row * g->b.count + col;
    SEO_UNROLL
    for (int i = 0; i < SEO_TILE_ROWS; i++) {
        SEO_UNROLL
        for (int v = 0; v < SEO_TILE_VECS; v++) {
            float *at = out + i * g->b.count + v * SEO_VWIDTH;
            seo_vf x = tile->sum[i][v] + bias[v];
            seo_vstore(at, add ? seo_vload(at) + x : x);
        }
    }
}

/* The sums take long enough to hide the way of the output's lines into the first cache. */
SEO_INLINE void prefetch_tile(const product *g, int64_t row, int64_t col) {
    const float *out = g->out + row * g->b.count + col;
    int64_t rows = seo_min_i64(SEO_TILE_ROWS, g->a.count - row);
    for (int64_t i = 0; i < rows; i++) {
        __builtin_prefetch(out + i * g->b.count, 1);
        __builtin_prefetch(out + i * g->b.count + SEO_TILE_COLS - 1, 1);
    }
}

/* tile += A B over ks steps, while a line each of two streams is asked for every PREFETCH_STEPS. */
SEO_INLINE void add_product(seo_tile *tile, seo_tile_a a, seo_tile_b b, int64_t ks,
                            const float *const ahead[2]) {
    const float *ahead_a = ahead[0], *ahead_b = ahead[1];
    int64_t k = 0;
    for (; k + PREFETCH_STEPS <= ks; k += PREFETCH_STEPS) {
        __builtin_prefetch(ahead_a + k * (LINE_FLOATS / PREFETCH_STEPS), 0, 2);
        __builtin_prefetch(ahead_b + k * (LINE_FLOATS / PREFETCH_STEPS), 0, 2);
        SEO_UNROLL
        for (int u = 0; u < PREFETCH_STEPS; u++) {
            seo_tile_add_product(tile, SEO_TILE_VECS, a, b, 1);
            a.at += a.step;
            b.at += b.step;
        }
    }
    seo_tile_add_product(tile, SEO_TILE_VECS, a, b, ks - k);
}

/* A part of a block's output: rows [row, row_end) of it, panels [panel, panel_end) of B. */
typedef struct part {
    int64_t row, row_end, panel, panel_end;
} part;

/* Where in the packed A the lines lie that the n-th tile of a piece asks for: the same rows in the
 * next piece, a slice at a time. */
static const float *ahead_in_a(const product *g, const block *p, const part *t, int64_t k,
                               int64_t n) {
    int64_t row = t->row + n / A_SLICES * SEO_TILE_ROWS;
    if (row >= t->row_end || k + K_PIECE >= p->ks) return g->packed_a + t->row * g->k_block;
    return g->packed_a + row * g->k_block + (k + K_PIECE) * SEO_TILE_ROWS +
           n % A_SLICES * SLICE_FLOATS;
}

/* One piece of k for a task: a panel of B stays close while the panels of A pass. */
static void compute_piece(const product *g, const block *p, const part *t, int64_t k) {
    int64_t ks = seo_min_i64(K_PIECE, p->ks - k), tiles = 0;
    for (int64_t panel = t->panel; panel < t->panel_end; panel++) {
        int64_t col = p->col + panel * SEO_TILE_COLS, stride = SEO_TILE_COLS * g->k_block;
        seo_tile_b b = {g->packed_b + panel * stride + k * SEO_TILE_COLS, SEO_TILE_COLS};
        const float *ahead_b = b.at + (panel + 1 < t->panel_end ? stride : 0);
        if (is_direct(g, col)) b = (seo_tile_b){g->b.data + (p->k + k) * g->b.ld + col, g->b.ld};
        for (int64_t i = t->row; i < t->row_end; i += SEO_TILE_ROWS, tiles++) {
            const float *const ahead[2] = {ahead_in_a(g, p, t, k, tiles), ahead_b};
            seo_tile_a a = {g->packed_a + i * g->k_block + k * SEO_TILE_ROWS, 1, SEO_TILE_ROWS};
            seo_tile tile;
            prefetch_tile(g, p->row + i, col);
            seo_tile_zero(&tile);
            add_product(&tile, a, b, ks, ahead);
            store_tile(g, &tile, p->row + i, col, p->k + k == 0);
            ahead_b += SLICE_FLOATS;
        }
    }
}

/* Called by every thread of a parallel region. */
static void multiply_block(const product *g, const block *p) {
    int64_t b_panels = seo_div_up(p->cols, SEO_TILE_COLS);
    int64_t b_groups = seo_div_up(b_panels, PACK_PANELS);
    int64_t a_groups = seo_div_up(p->rows, PACK_PANELS * SEO_TILE_ROWS);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < a_groups + b_groups; i++) {
        if (i < b_groups)
            pack_b(g, p, i);
        else
            pack_a(g, p, i - b_groups);
    }
    int64_t row_tasks = seo_div_up(p->rows, TASK_ROWS);
    int64_t tasks = row_tasks * seo_div_up(b_panels, g->task_panels);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < tasks; i++) {
        int64_t row = i % row_tasks * TASK_ROWS, panel = i / row_tasks * g->task_panels;
        part t = {row, seo_min_i64(row + TASK_ROWS, p->rows), panel,
                  seo_min_i64(panel + g->task_panels, b_panels)};
        for (int64_t k = 0; k < p->ks; k += K_PIECE) compute_piece(g, p, &t, k);
    }
}

static void multiply_packed(const product *g) {
#pragma omp parallel num_threads(g->threads)
    for (int64_t col = 0; col < g->b.count; col += g->col_block) {
        for (int64_t row = 0; row < g->a.count; row += g->row_block) {
            for (int64_t k = 0; k < g->k_count; k += g->k_block) {
                block p = {row, seo_min_i64(g->row_block, g->a.count - row),
                           col, seo_min_i64(g->col_block, g->b.count - col),
                           k,   seo_min_i64(g->k_block, g->k_count - k)};
                multiply_block(g, &p);
            }
        }
    }
}

/* Shares the scratch between the panels of A and of B. */
static void plan_blocks(product *g, seo_device *dev) {
    g->k_block = seo_min_i64(g->k_count, K_BLOCK);
    int64_t room = dev->scratch_bytes / (g->k_block * (int64_t)sizeof(float));
    int64_t rows = seo_round_up(g->a.count, TASK_ROWS);
    int64_t cols = seo_round_up(g->b.count, SEO_TILE_COLS);
    g->row_block = seo_min_i64(rows, seo_max_i64(room / 3, room - cols) / TASK_ROWS * TASK_ROWS);
    g->col_block = seo_min_i64(cols, (room - g->row_block) / SEO_TILE_COLS * SEO_TILE_COLS);
    g->packed_b = dev->scratch;
    g->packed_a = g->packed_b + g->col_block * g->k_block;
    int64_t row_tasks = seo_div_up(g->row_block, TASK_ROWS);
    int64_t panels = g->col_block / SEO_TILE_COLS;
    int64_t spread = row_tasks * panels / (TASKS_PER_THREAD * g->threads);
    g->task_panels = seo_max_i64(1, seo_min_i64(TASK_PANELS_MAX, spread));
}

/* rows x 4 elements of out by dot products; rows and columns past the edge are computed again from
 * the last one and not stored. */
SEO_INLINE void dot_tile(const product *g, int rows, int64_t row, int64_t col) {
    enum { COLS = 4 };
    const float *a[4], *b[COLS];
    for (int i = 0; i < rows; i++) {
        a[i] = g->a.data + seo_min_i64(row + i, g->a.count - 1) * g->a.ld;
    }
    for (int j = 0; j < COLS; j++) {
        b[j] = g->b.data + seo_min_i64(col + j, g->b.count - 1) * g->b.ld;
    }
    seo_vf sum[4][COLS] = {{{0}}};
    int64_t k = 0;
    for (; k + SEO_VWIDTH <= g->k_count; k += SEO_VWIDTH) {
        SEO_UNROLL
        for (int i = 0; i < rows; i++) {
            seo_vf x = seo_vload(a[i] + k);
            SEO_UNROLL
            for (int j = 0; j < COLS; j++) sum[i][j] += x * seo_vload(b[j] + k);
        }
    }
    int64_t rest = g->k_count - k;
    SEO_UNROLL
    for (int i = 0; i < rows; i++) {
        seo_vf x = seo_vload_n(a[i] + k, rest);
        SEO_UNROLL
        for (int j = 0; j < COLS; j++) {
            float total = seo_vsum(sum[i][j] + x * seo_vload_n(b[j] + k, rest));
            if (row + i >= g->a.count || col + j >= g->b.count) continue;
            float *out = g->out + (row + i) * g->b.count + col + j;
            if (g->bias) total += g->bias[col + j];
            *out = g->accumulate ? *out + total : total;
        }
    }
}

/* Four rows of B stay in the first cache while all rows of A pass over them. */
static void multiply_dots(const product *g) {
    int64_t tasks = seo_div_up(g->b.count, DOT_TASK_COLS);
#pragma omp parallel for schedule(dynamic) num_threads(g->threads)
    for (int64_t task = 0; task < tasks; task++) {
        int64_t end = seo_min_i64((task + 1) * DOT_TASK_COLS, g->b.count);
        for (int64_t col = task * DOT_TASK_COLS; col < end; col += 4) {
            if (g->a.count == 1)
                dot_tile(g, 1, 0, col);
            else if (g->a.count == 2)
                dot_tile(g, 2, 0, col);
            else
                for (int64_t row = 0; row < g->a.count; row += 4) dot_tile(g, 4, row, col);
        }
    }
}

static void multiply(seo_device *dev, const seo_matmul_args *a, void *out) {
    int64_t cols = a->out.dims[a->out.rank - 1];
    int64_t rows = seo_tensor_count(&a->out) / cols;
    int64_t k_count = seo_tensor_count(&a->a) / rows;
    bool a_by_k = a->layout != SEO_MATMUL_TN, b_by_k = a->layout == SEO_MATMUL_NT;
    product g = {.a = {a->a.data, a_by_k ? k_count : rows, rows, a_by_k},
                 .b = {a->b.data, b_by_k ? k_count : cols, cols, b_by_k},
                 .k_count = k_count,
                 .out = out,
                 .bias = seo_tensor_given(&a->bias) ? a->bias.data : NULL,
                 .accumulate = a->accumulate,
                 .direct = !b_by_k && rows <= DIRECT_ROWS_MAX,
                 .threads = rows * cols * k_count < SERIAL_WORK ? 1 : dev->threads};
    if (b_by_k && rows <= DOT_ROWS_MAX) {
        multiply_dots(&g);
    } else {
        plan_blocks(&g, dev);
        multiply_packed(&g);
    }
}

/* The activation is a pass of its own: it costs little beside the product on this device. */
seo_err SEO_CPU_FN(matmul)(seo_device *dev, const seo_matmul_args *a) {
    if (a->epilogue == SEO_EPILOGUE_GELU) {
        multiply(dev, a, a->pre.data);
        return SEO_CPU_FN(gelu_fwd)(
            dev, &(seo_gelu_fwd_args){.out = a->out, .inp = a->pre, .kind = a->gelu});
    }
    multiply(dev, a, a->out.data);
    if (a->epilogue == SEO_EPILOGUE_NONE) return SEO_OK;
    return SEO_CPU_FN(gelu_bwd)(
        dev, &(seo_gelu_bwd_args){.dinp = a->out, .dout = a->out, .inp = a->pre, .kind = a->gelu});
}
