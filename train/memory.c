#include "train/memory.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

void seo_memory_add(seo_memory_table *table, const char *name, int64_t bytes) {
    if (bytes == 0) return;
    SEO_ASSERT(table->count < SEO_MEMORY_ROWS && bytes > 0);
    seo_memory_row *row = &table->rows[table->count++];
    snprintf(row->name, sizeof row->name, "%s", name);
    row->bytes = bytes;
}

int64_t seo_memory_total(const seo_memory_table *table) {
    int64_t total = 0;
    for (int64_t i = 0; i < table->count; i++) total += table->rows[i].bytes;
    return total;
}

int64_t seo_memory_of(const seo_memory_table *table, const char *name) {
    for (int64_t i = 0; i < table->count; i++) {
        if (strcmp(table->rows[i].name, name) == 0) return table->rows[i].bytes;
    }
    return 0;
}

seo_device_facts seo_device_facts_of(const seo_device *dev) {
    return (seo_device_facts){.is_cpu = seo_device_is_cpu(dev),
                              .row_multiple = seo_device_row_multiple(dev)};
}

seo_device_facts seo_device_facts_for(bool is_cpu) {
    return (seo_device_facts){.is_cpu = is_cpu, .row_multiple = is_cpu ? 1 : SEO_CUDA_ROW_MULTIPLE};
}
