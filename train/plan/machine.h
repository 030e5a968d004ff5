/* The machines that `seodang plan --on` knows, and what is assumed of them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of one device. Rates and memory are the maker's; utilisation and price are assumptions that
 * options of the command replace. */
typedef struct seo_machine {
    const char *name;
    bool cpu;
    int32_t per_node;             /* devices that share a fast link */
    double bf16_flops, f32_flops; /* a second, dense, at the peak */
    double memory_bytes;          /* 0: the host's, not judged */
    double memory_rate;           /* bytes a second */
    double link_rate;             /* bytes a second that a device sends, inside a node */
    double network_rate;          /* and between nodes */
    double watts;
    double utilisation; /* part of the peak that training reaches */
    const char *utilisation_from;
    double price; /* US dollars an hour; 0: not known */
    const char *price_from;
} seo_machine;

typedef struct seo_machines {
    seo_machine device;
    int32_t count;
} seo_machines;

/* "8xH100", "H100", "cpu", "4xcpu"; letters in either case. SEO_ERR_USAGE lists the known ones. */
seo_err seo_machines_parse(const char *text, seo_machines *out);

#ifdef __cplusplus
}
#endif
