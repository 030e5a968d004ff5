#include "train/plan/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/text.h"

#define TERA 1e12
#define GIGA 1e9

/* Peaks, memory, NVLink and board power: NVIDIA's data sheets (dense rates; a link counts one
 * direction). Network: 400 Gbit/s a device in a node of eight, 200 with A100. Utilisation: llm.c's
 * published runs of GPT-2 (124M on A100: 56 %, 124M to 1558M on H100: 38 to 48 %); for the rest
 * nothing is published that would fit, and nothing of ours was measured. Prices: the same runs. */
static const char k_llmc_a100[] = "llm.c's 124M on 8 A100";
static const char k_llmc_h100[] = "llm.c's GPT-2 on 8 H100 reaches 38 to 48 %";
static const char k_guess[] = "a guess";
static const char k_price_a100[] = "llm.c's 124M run, 2024";
static const char k_price_h100[] = "llm.c's 1558M run, 2024";

static const seo_machine k_machines[] = {
    {"A100", false, 8, 312 * TERA, 19.5 * TERA, 80 * GIGA, 2.04 * TERA, 300 * GIGA, 25 * GIGA, 400,
     0.50, k_llmc_a100, 1.75, k_price_a100},
    {"A100-40G", false, 8, 312 * TERA, 19.5 * TERA, 40 * GIGA, 1.56 * TERA, 300 * GIGA, 25 * GIGA,
     400, 0.50, k_llmc_a100, 1.75, k_price_a100},
    {"H100", false, 8, 989 * TERA, 67 * TERA, 80 * GIGA, 3.35 * TERA, 450 * GIGA, 50 * GIGA, 700,
     0.40, k_llmc_h100, 3.50, k_price_h100},
    {"H200", false, 8, 989 * TERA, 67 * TERA, 141 * GIGA, 4.8 * TERA, 450 * GIGA, 50 * GIGA, 700,
     0.40, k_llmc_h100, 0, NULL},
    {"B200", false, 8, 2250 * TERA, 75 * TERA, 180 * GIGA, 7.7 * TERA, 900 * GIGA, 50 * GIGA, 1000,
     0.35, k_guess, 0, NULL},
    {"L40S", false, 8, 362 * TERA, 91.6 * TERA, 48 * GIGA, 0.864 * TERA, 32 * GIGA, 25 * GIGA, 350,
     0.45, k_guess, 0, NULL},
    {"RTX4090", false, 4, 165 * TERA, 82.6 * TERA, 24 * GIGA, 1.01 * TERA, 25 * GIGA, 3 * GIGA, 450,
     0.60, k_guess, 0, NULL},
};

/* This machine's processor: its rate is measured when it is asked for (probe.h). Ranks on the CPU
 * share a host's memory or a 10 Gbit/s network; 65 W is a laptop's or a few cores of a server. */
static const seo_machine k_cpu = {.name = "cpu",
                                  .cpu = true,
                                  .per_node = 1,
                                  .memory_rate = 20 * GIGA,
                                  .link_rate = 1 * GIGA,
                                  .network_rate = 1 * GIGA,
                                  .watts = 65,
                                  .utilisation = 0.7,
                                  .utilisation_from = "of a product measured on this machine"};

static seo_err refuse(const char *text) {
    seo_buf known = {0};
    for (int64_t i = 0; i < SEO_COUNT_OF(k_machines); i++) {
        seo_buf_format(&known, "%s, ", k_machines[i].name);
    }
    seo_buf_text(&known, "cpu (processors like this one)");
    const seo_err err =
        SEO_FAIL(SEO_ERR_USAGE,
                 "--on %s: not a machine this program knows. Write a number, x, and "
                 "one of: %s",
                 text, known.failed ? "" : known.data);
    seo_buf_free(&known);
    return err;
}

seo_err seo_machines_parse(const char *text, seo_machines *out) {
    enum { DEVICES_MAX = 1 << 20 };
    char *end = NULL;
    long count = strtol(text, &end, 10);
    const char *name = end;
    if (end == text) {
        count = 1;
    } else if (*end != 'x' && *end != 'X') {
        return refuse(text);
    } else {
        name = end + 1;
    }
    if (count < 1 || count > DEVICES_MAX) return refuse(text);
    out->count = (int32_t)count;
    if (strcasecmp(name, k_cpu.name) == 0) {
        out->device = k_cpu;
        return SEO_OK;
    }
    for (int64_t i = 0; i < SEO_COUNT_OF(k_machines); i++) {
        if (strcasecmp(name, k_machines[i].name) != 0) continue;
        out->device = k_machines[i];
        return SEO_OK;
    }
    return refuse(text);
}
