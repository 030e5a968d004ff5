/* Graphs and events of a device: handles that know their device, over what its backend made. */
#include <stdlib.h>

#include "base/check.h"
#include "kernels/backend.h"

struct seo_graph {
    seo_device *dev;
    void *graph;
};

struct seo_event {
    seo_device *dev;
    void *event;
};

bool seo_device_has_graphs(const seo_device *dev) {
    return dev->backend->capture_begin != NULL;
}

seo_err seo_device_capture_begin(seo_device *dev) {
    SEO_ASSERT(seo_device_has_graphs(dev));
    return dev->backend->capture_begin(dev);
}

seo_err seo_device_capture_end(seo_device *dev, seo_graph **out) {
    SEO_ASSERT(seo_device_has_graphs(dev));
    *out = NULL;
    void *made = NULL;
    const seo_err err = dev->backend->capture_end(dev, &made);
    if (err != SEO_OK) return err;
    seo_graph *graph = malloc(sizeof *graph);
    if (!graph) {
        dev->backend->graph_free(dev, made);
        return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for a graph", dev->name);
    }
    *graph = (seo_graph){.dev = dev, .graph = made};
    *out = graph;
    return SEO_OK;
}

seo_err seo_graph_launch(seo_graph *graph) {
    return graph->dev->backend->graph_launch(graph->dev, graph->graph);
}

void seo_graph_close(seo_graph *graph) {
    if (!graph) return;
    graph->dev->backend->graph_free(graph->dev, graph->graph);
    free(graph);
}

seo_err seo_event_open(seo_device *dev, seo_event **out) {
    *out = NULL;
    seo_event *event = calloc(1, sizeof *event);
    if (!event) return SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for an event", dev->name);
    event->dev = dev;
    const seo_err err = dev->backend->event_open(dev, &event->event);
    if (err == SEO_OK) {
        *out = event;
    } else {
        free(event);
    }
    return err;
}

seo_err seo_event_record(seo_event *event) {
    return event->dev->backend->event_record(event->dev, event->event);
}

seo_err seo_event_elapsed(const seo_event *from, const seo_event *to, double *ms) {
    SEO_ASSERT(from->dev == to->dev);
    return to->dev->backend->event_elapsed(to->dev, from->event, to->event, ms);
}

void seo_event_close(seo_event *event) {
    if (!event) return;
    event->dev->backend->event_close(event->dev, event->event);
    free(event);
}
