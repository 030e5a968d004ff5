/* In which order parts are added up, element by element: of ranks in a collective (comm.h), of rows
 * in memory (ops.h). */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

typedef enum seo_sum_order {
    SEO_SUM_SEQUENCE, /* ((part 0 + part 1) + part 2) + ... */
    SEO_SUM_TREE      /* (0 + 1) + (2 + 3) ..., balanced: the parts are a power of two */
} seo_sum_order;

/* The most parts of a TREE. */
enum { SEO_SUM_TREE_LEVELS = 12, SEO_SUM_TREE_MAX = 1 << SEO_SUM_TREE_LEVELS };

#ifdef __cplusplus
}
#endif
