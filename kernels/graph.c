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

/* An operator inside a graph cannot be waited for. */
bool seo_device_has_graphs(const seo_device *dev) {
    return dev->backend->capture_begin != NULL && !dev->check_each;
}

seo_err seo_device_capture_begin(seo_device *dev) {
    SEO_ASSERT(seo_device_has_graphs(dev));
    seo_err err = seo_device_enter(dev, SEO_CALL_OUTSIDE_CAPTURE, "another capture");
    if (err != SEO_OK) return err;
    err = seo_device_leave(dev, dev->backend->capture_begin(dev));
    dev->capturing = err == SEO_OK;
    dev->capture_err = SEO_OK;
    return err;
}

/* A graph in which a call is missing is worth nothing. */
seo_err seo_device_capture_end(seo_device *dev, seo_graph **out) {
    SEO_ASSERT(dev->capturing);
    *out = NULL;
    void *made = NULL;
    seo_err err = seo_device_leave(dev, dev->backend->capture_end(dev, &made));
    if (dev->capture_err != SEO_OK) err = dev->capture_err;
    dev->capturing = false;
    seo_graph *graph = err == SEO_OK ? malloc(sizeof *graph) : NULL;
    if (graph) {
        *graph = (seo_graph){.dev = dev, .graph = made};
        *out = graph;
        return SEO_OK;
    }
    dev->backend->graph_free(dev, made);
    return err != SEO_OK ? err : SEO_FAIL(SEO_ERR_MEMORY, "%s: no memory for a graph", dev->name);
}

seo_err seo_graph_launch(seo_graph *graph) {
    seo_device *dev = graph->dev;
    const seo_err err = seo_device_enter(dev, SEO_CALL_OUTSIDE_CAPTURE, "another graph");
    if (err != SEO_OK) return err;
    return seo_device_leave(dev, dev->backend->graph_launch(dev, graph->graph));
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
    seo_device *dev = event->dev;
    const seo_err err = seo_device_enter(dev, SEO_CALL_OUTSIDE_CAPTURE, "an event");
    if (err != SEO_OK) return err;
    return seo_device_leave(dev, dev->backend->event_record(dev, event->event));
}

seo_err seo_event_elapsed(const seo_event *from, const seo_event *to, double *ms) {
    SEO_ASSERT(from->dev == to->dev);
    seo_device *dev = to->dev;
    const seo_err err = seo_device_enter(dev, SEO_CALL_OUTSIDE_CAPTURE, "the time of an event");
    if (err != SEO_OK) return err;
    return seo_device_leave(dev, dev->backend->event_elapsed(dev, from->event, to->event, ms));
}

void seo_event_close(seo_event *event) {
    if (!event) return;
    event->dev->backend->event_close(event->dev, event->event);
    free(event);
}
